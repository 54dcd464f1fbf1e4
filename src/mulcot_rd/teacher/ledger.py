"""The ledger: every answer that was paid for, once, on disk before it counts.

One append-only JSONL file. A row is keyed by the content of its request, so changing concurrency, limits or
the order of posts repeats nothing, and changing a prompt repeats exactly what it must. A run that is killed
goes on from here.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout
from pydantic import AliasChoices, Field

from mulcot_rd.images import ImageError
from mulcot_rd.schema import Record
from mulcot_rd.teacher.appending import AppendOnlyFile, read_rows
from mulcot_rd.teacher.errors import TeacherError
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.questions import Answer, Question, Role

# A finished annotation that another process runs again is over in less.
LOCK_PATIENCE_S = 5.0


class LedgerQuestion(Record):
    """A question by the key of its content; all else is there for a person who reads the ledger.

    ``subject`` is a post's id or an image's name (``post_id`` in rows of version 0.1).
    """

    key: str
    subject: str = Field(validation_alias=AliasChoices("subject", "post_id"))
    role: Role
    stage: int | None
    attempt: int

    @classmethod
    def of(cls, key: str, question: Question) -> Self:
        """What is noted of a question."""
        return cls(
            key=key, subject=question.subject, role=question.role, stage=question.stage, attempt=question.attempt
        )

    def answered(self, answer: Answer) -> "LedgerRow":
        """The row of its answer."""
        return LedgerRow(**self.model_dump(), answer=answer)


class LedgerRow(LedgerQuestion):
    """One question with its answer."""

    answer: Answer


class Ledger:
    """An append-only file of answers; ``answers`` has every one that is on disk, by the key of its question.

    ``batches`` is the folder with the notes of batches that are open.
    """

    def __init__(self, path: Path) -> None:
        """Read the answers that ``path`` has; the file need not exist yet."""
        self.path = path
        self.batches = path.with_suffix(".batches")
        self.answers = {row.key: row.answer for row in read_rows(path, LedgerRow)}
        self._file = AppendOnlyFile(path)

    async def append(self, row: LedgerRow) -> None:
        """Write a row; when this returns, the row is on disk and counts. See :class:`AppendOnlyFile`."""
        self._file.add(row)
        await self._file.flush()
        self.answers[row.key] = row.answer

    async def close(self) -> None:
        """Wait for rows that are still being written."""
        await self._file.flush()


@contextmanager
def locked_ledger(path: Path) -> Iterator[Ledger]:
    """The ledger, with other processes kept from asking a server for it.

    Raises:
        TeacherError: If another process does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_suffix(".lock"), LOCK_PATIENCE_S, thread_local=False)
    try:
        # Before the file is read: what another process is just writing would be missed, and paid for again.
        acquired = lock.acquire()
    except Timeout:
        raise TeacherError(
            f"another process is asking for the same ledger ({lock.lock_file} is locked): wait until it is done"
        ) from None
    with acquired:
        yield Ledger(path)


def question_key(question: Question, parameters: TeacherParameters) -> str:
    """The content hash of a question: whole conversation, image bytes, model, sampling parameters, attempt.

    The server's address is left out: the same model elsewhere repeats nothing. Retries, limits, concurrency, price
    and whether the server was held to a JSON schema are no content.

    Raises:
        ImageError: If the question's image is missing.
    """
    content = {
        "messages": [(message.role, message.text) for message in question.messages],
        "image": None if question.image is None else _image_hash(question.image),
        "image_size": None if question.image is None else parameters.image_size,
        "model": parameters.model,
        "temperature": parameters.temperature,
        **(question.sampling or {}),
        "max_tokens": question.max_tokens or parameters.max_tokens,
        "attempt": question.attempt,
    }
    return hashlib.sha256(json.dumps(content, ensure_ascii=False, sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=65536)
def _image_hash(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ImageError(f"image can't be read ({type(error).__name__}): {path}") from error
