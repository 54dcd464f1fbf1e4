"""The ledger: every answer that was paid for, once, on disk before it counts.

One append-only JSONL file. A row is keyed by the content of its request, so changing concurrency, limits or
the order of posts repeats nothing, and changing a prompt repeats exactly what it must. A run that is killed
goes on from here.
"""

import asyncio
import fcntl
import hashlib
import json
import logging
import os
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

from pydantic import AliasChoices, Field, ValidationError

from mulcot_rd.images import ImageError
from mulcot_rd.schema import Record
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.provider import Answer, Provider, Question, Role

logger = logging.getLogger(__name__)


class LedgerRow(Record):
    """One answer. All but ``key`` and ``answer`` is there for a person who reads the file.

    ``subject`` is a post's id or an image's name (``post_id`` in rows of version 0.1).
    """

    key: str
    subject: str = Field(validation_alias=AliasChoices("subject", "post_id"))
    role: Role
    stage: int | None
    attempt: int
    answer: Answer


class Ledger:
    """An append-only file of answers that several processes may write at once.

    A line that a kill tore is skipped with a warning and never removed; the next row starts on a new line.
    """

    def __init__(self, path: Path) -> None:
        """Read the answers that ``path`` has; the file need not exist yet."""
        self._path = path
        self._answers: dict[str, Answer] = {}
        self._pending: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        if path.exists():
            self._read()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: str) -> Answer | None:
        """The answer to the request with this key, or ``None``."""
        return self._answers.get(key)

    async def append(self, row: LedgerRow) -> None:
        """Write a row; when this returns, the row is on disk. Rows that wait together share one sync.

        Raises:
            OSError: If the file can't be written.
        """
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((row.model_dump_json().encode() + b"\n", written))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_pending())
        await written
        self._answers[row.key] = row.answer

    async def close(self) -> None:
        """Wait for rows that are still being written."""
        if self._writer is not None:
            await self._writer

    async def _write_pending(self) -> None:
        while self._pending:
            batch, self._pending = self._pending, []
            try:
                await asyncio.to_thread(self._write, b"".join(line for line, _ in batch))
            except OSError as error:
                for _, written in batch:
                    if not written.done():
                        written.set_exception(error)
            else:
                for _, written in batch:
                    if not written.done():
                        written.set_result(None)

    def _write(self, lines: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = file.seek(0, os.SEEK_END)
            if end > 0:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    lines = b"\n" + lines
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())

    def _read(self) -> None:
        unreadable = 0
        with self._path.open("rb") as file:
            for line in file:
                if not line.strip():
                    continue
                try:
                    row = LedgerRow.model_validate_json(line)
                except ValidationError:
                    unreadable += 1
                else:
                    self._answers[row.key] = row.answer
        if unreadable:
            logger.warning("%s: %d torn or unreadable line(s) skipped; they are asked again", self._path, unreadable)


class LedgeredProvider:
    """A provider that asks another only what the ledger does not know; equal requests in flight are sent once."""

    def __init__(self, provider: Provider[Question], ledger: Ledger, parameters: TeacherParameters) -> None:
        """Put ``ledger`` in front of ``provider``; the sampling parameters are part of every key."""
        self._provider = provider
        self._ledger = ledger
        self._parameters = parameters
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.asked = 0
        self.remembered = 0

    @property
    def name(self) -> str:
        """The name of the provider that is asked."""
        return self._provider.name

    async def answer(self, question: Question) -> Answer:
        """The ledger's answer, or the provider's once it is on disk."""
        key = question_key(question, self._parameters)
        async with self._locks[key]:
            known = self._ledger.get(key)
            if known is not None:
                self.remembered += 1
                return known
            answer = await self._provider.answer(question)
            self.asked += 1
            row = LedgerRow(
                key=key,
                subject=question.subject,
                role=question.role,
                stage=question.stage,
                attempt=question.attempt,
                answer=answer,
            )
            # An answer that was paid for is written even where the run is being stopped.
            await asyncio.shield(self._ledger.append(row))
            return answer

    async def close(self) -> None:
        """Close the provider, then the ledger."""
        await self._provider.close()
        await self._ledger.close()


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
