"""The Batch API of OpenAI: questions are uploaded in files and answered within a day, at half the price.

One task works in rounds: it gathers the open questions, sets money aside for them, creates batches, looks at these
until they end, and writes the answers to the ledger. Retries and stage two are the open questions of the next round.

Every batch has a note on disk, written before the batch is created and removed once the ledger has its answers. A
process may be killed at any moment: the next one finds all batches by their notes and pays for nothing twice.
"""

import asyncio
import contextlib
import json
import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

import openai
from openai.types import Batch, BatchRequestCounts
from pydantic import ValidationError
from tqdm import tqdm

from mulcot_rd.files import write_text
from mulcot_rd.progress import progress
from mulcot_rd.schema import Record
from mulcot_rd.teacher.budget import Reservation
from mulcot_rd.teacher.errors import RequestFailedError, RequestRefusedError, TeacherError, TransientFaultError
from mulcot_rd.teacher.ledger import Ledger, LedgerQuestion, LedgerRow
from mulcot_rd.teacher.openai_client import OpenAITeacher
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.questions import Answer, Question
from mulcot_rd.teacher.server_errors import error_in

logger = logging.getLogger(__name__)

# Questions are sent once no new one has come for this long, in seconds. Sent too early, a batch is smaller, not wrong.
QUIET_S = 0.5
TRANSFER_TIMEOUT_S = 3600.0  # longest upload or download of some hundred megabytes
ENDPOINT = "/v1/chat/completions"
METADATA = "mulcot_rd_job"


class BatchNote(Record):
    """What the next run must know of a batch; the batch's metadata has the note's file name.

    ``questions`` are by ledger key. ``batch_id`` is ``None`` while it is not known whether the batch was created.
    """

    base_url: str
    model: str
    questions: dict[str, LedgerQuestion]
    batch_id: str | None = None


@dataclass(eq=False)
class _Waiting:
    question: Question
    answer: asyncio.Future[Answer]
    sent: dict[str, Any] = field(default_factory=dict)  # fields of its last line in this run, without the messages
    faults: int = 0  # batches that brought no answer


def open_batches(model: str, ledger: Ledger) -> dict[Path, BatchNote]:
    """Notes of one model's batches that may have answers the ledger lacks; teacher and captioner share a folder.

    Raises:
        TeacherError: If a note can't be read.
    """
    notes = {}
    for path in sorted(ledger.batches.glob("*.json")):
        try:
            note = BatchNote.model_validate_json(path.read_bytes())
        except ValidationError:
            raise TeacherError(f"{path} can't be read: delete it to have its batch's questions asked again") from None
        if note.questions.keys() <= ledger.answers.keys():
            path.unlink()
        elif note.model == model:
            notes[path] = note
    return notes


class BatchTeacher:
    """Sends questions by the Batch API."""

    def __init__(self, server: OpenAITeacher, parameters: TeacherParameters, ledger: Ledger) -> None:
        """Read the notes of an earlier run; the ledger's lock keeps other processes from doing the same.

        Raises:
            TeacherError: If a note can't be read, or a batch is at another server.
        """
        self._server = server
        self._parameters = parameters
        self._max_requests = parameters.batch.max_requests
        self._ledger = ledger
        self._notes = open_batches(parameters.model, ledger)
        self._waiting: dict[str, _Waiting] = {}
        self._reserved: dict[str, Reservation] = {}
        self._seen: dict[Path, BatchRequestCounts] = {}
        self._news = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        for path, note in self._notes.items():
            if note.base_url.rstrip("/") != server.base_url.rstrip("/"):
                cure = f"set teacher.base_url back to it, or delete {path} to have its questions asked again"
                raise TeacherError(f"a batch of an earlier run is at {note.base_url}: {cure}")
            taken_over = {key: server.budget.take_over(key) for key in note.questions if key not in ledger.answers}
            self._reserved |= {key: reservation for key, reservation in taken_over.items() if reservation is not None}

    async def answer(self, key: str, question: Question) -> Answer:
        """Wait for the batch that brings the answer; errors are as online, and a batch that is refused ends all."""
        if self._failure is not None:
            raise self._failure
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        if key in self._ledger.answers:
            return self._ledger.answers[key]
        waiting = self._waiting[key] = _Waiting(question, asyncio.get_running_loop().create_future())
        self._news.set()
        return await waiting.answer

    async def drain(self) -> None:
        """Send nothing more and wait for nothing: batches go on at the server, and the next run collects them."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait([self._worker])

    async def close(self) -> None:
        """Stop, and close the connection."""
        await self.drain()
        if self._notes:
            logger.info("%d batch(es) go on at the server: the same command collects them", len(self._notes))
        await self._server.close()

    async def _work(self) -> None:
        """Work until the task is cancelled; what ends it ends every question that waits."""
        try:
            with progress(total=0, desc="batches", unit="line") as bar:
                await self._rounds(bar)
        except RequestFailedError as error:
            self._failure = TeacherError(f"the Batch API failed ({error}): run the same command again to go on")
        except (Exception, asyncio.CancelledError) as error:
            self._failure = error
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                waiting.answer.set_exception(self._failure)

    async def _rounds(self, bar: tqdm) -> NoReturn:
        for path, note in list(self._notes.items()):
            if note.batch_id is None:
                # Its process was killed around creating the batch.
                batch = await self._server.call(partial(self._find, path))
                self._forget(path) if batch is None else self._keep(path, note, batch_id=batch.id)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._parameters.batch.poll_seconds if self._notes else None):
                    await self._news.wait()
            if self._news.is_set():
                while self._news.is_set():
                    self._news.clear()
                    await asyncio.sleep(QUIET_S)
                while (lines := await self._lines()) and await self._send(lines):
                    pass
            for path, note in list(self._notes.items()):
                try:
                    await self._look_at(path, note, bar)
                except RequestRefusedError:
                    raise
                except RequestFailedError as error:
                    logger.warning("the server doesn't tell about %s (%s); looking again", note.batch_id, error)

    async def _lines(self) -> dict[str, bytes]:
        """The lines of the next input file by key: open questions, up to the file's limits."""
        under_way = {key for note in self._notes.values() for key in note.questions}
        lines: dict[str, bytes] = {}
        size = 0
        for key, waiting in list(self._waiting.items()):
            if key in under_way:
                continue
            body = await self._server.body(waiting.question)
            line = (json.dumps({"custom_id": key, "method": "POST", "url": ENDPOINT, "body": body}) + "\n").encode()
            size += len(line)
            if lines and (len(lines) == self._max_requests or size > self._parameters.batch.max_megabytes * 1_000_000):
                break
            waiting.sent = {name: value for name, value in body.items() if name != "messages"}
            lines[key] = line
        return lines

    async def _send(self, lines: dict[str, bytes]) -> bool:
        """Create a batch of the lines that the budget has room for; whether there were any.

        The other questions stay open until a batch has ended that cost less than was set aside for it.
        """
        budget, client = self._server.budget, self._server.client
        questions = {key: self._waiting[key].question for key in lines}
        noted = {key: LedgerQuestion.of(key, question) for key, question in questions.items()}
        note = BatchNote(base_url=self._server.base_url, model=self._parameters.model, questions=noted)
        path = self._ledger.batches / f"{uuid.uuid4().hex}.json"
        # First of all: a run that finds the note without a batch takes back what was set aside.
        self._keep(path, note)
        tried = await asyncio.gather(*(budget.try_reserve(key, question) for key, question in questions.items()))
        reserved = {key: reservation for key, reservation in zip(lines, tried, strict=True) if reservation is not None}
        self._reserved |= reserved
        if not reserved:
            self._forget(path)
            if not self._notes:
                await budget.reserve(*next(iter(questions.items())))  # raises BudgetReachedError
            return False
        file = (path.with_suffix(".jsonl").name, b"".join(lines[key] for key in reserved))
        uploaded = await self._server.call(partial(client.files.create, file=file, purpose="batch"), TRANSFER_TIMEOUT_S)

        async def create() -> Batch:
            # An earlier try may have created it, and its answer was lost.
            return await self._find(path) or await client.batches.create(
                input_file_id=uploaded.id,
                endpoint=ENDPOINT,
                completion_window="24h",
                metadata={METADATA: path.stem},
            )

        batch = await self._server.call(create)
        self._keep(path, note, questions={key: noted[key] for key in reserved}, batch_id=batch.id)
        logger.info("%s: %d question(s) sent", batch.id, len(reserved))
        return True

    async def _find(self, path: Path) -> Batch | None:
        async for batch in self._server.client.batches.list(limit=100):
            if (batch.metadata or {}).get(METADATA) == path.stem:
                return batch
        return None

    async def _look_at(self, path: Path, note: BatchNote, bar: tqdm) -> None:
        """See how a batch stands, and take what it brought if it has ended."""
        retrieve, batch_id = self._server.client.batches.retrieve, cast(str, note.batch_id)
        batch = await self._server.call(partial(self._fetch, retrieve, batch_id, path))
        self._seen[path] = batch.request_counts or BatchRequestCounts(completed=0, failed=0, total=0)
        bar.total = sum(count.total for count in self._seen.values())
        bar.set_postfix_str(f"{batch.id} {batch.status}", refresh=False)
        bar.update(sum(count.completed + count.failed for count in self._seen.values()) - bar.n)
        if batch.status == "failed":
            self._take_back(path, note, batch)
        elif batch.status in ("completed", "expired", "cancelled"):
            await self._collect(path, note, batch)

    async def _collect(self, path: Path, note: BatchNote, batch: Batch) -> None:
        """Write a batch's answers to the ledger, then give them out."""
        results: dict[str, dict[str, Any]] = {}
        for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
            results |= await self._server.call(partial(self._results, file_id, path), TRANSFER_TIMEOUT_S)
        ended = batch.completed_at or batch.expired_at or batch.cancelled_at or batch.created_at
        latency_s = float(ended - batch.created_at)
        missing = [question for key, question in note.questions.items() if key not in self._ledger.answers]
        taken = [self._take(question, results.get(question.key, {}), latency_s) for question in missing]
        rows = [row for row in taken if row is not None]
        await asyncio.gather(*(self._ledger.append(row) for row in rows))
        self._forget(path)
        for row in rows:
            if row.key in self._waiting:
                self._waiting.pop(row.key).answer.set_result(row.answer)
        self._news.set()  # there may be room in the budget now
        unanswered = len(taken) - len(rows)
        logger.info("%s is %s: %d answered, %d not", batch.id, batch.status, len(rows), unanswered)
        if batch.status == "cancelled" and unanswered:
            said = f"{batch.id} was cancelled with {unanswered} question(s) open"
            raise TeacherError(f"{said}: run the same command again to ask those")

    async def _results(self, file_id: str, path: Path) -> dict[str, dict[str, Any]]:
        content = (await self._fetch(self._server.client.files.content, file_id, path)).content
        return {row["custom_id"]: row for row in map(json.loads, content.splitlines())}

    async def _fetch(self, fetch: Callable[[str], Awaitable[Any]], name: str, path: Path) -> Any:
        try:
            return await fetch(name)
        except openai.NotFoundError:
            said = f"{self._server.base_url} has no {name} any more"
            raise TeacherError(f"{said}: delete {path} to have its batch's questions asked again") from None

    def _take(self, question: LedgerQuestion, result: dict[str, Any], latency_s: float) -> LedgerRow | None:
        """The row of an answer; a question without one stays open where asking again may help, and fails where not."""
        key, waiting = question.key, self._waiting.get(question.key)
        try:
            answer = self._read(waiting, result, latency_s)
        except (TransientFaultError, RequestFailedError, TeacherError) as error:
            if key in self._reserved:
                self._reserved.pop(key).failed(error)
            if waiting is not None:
                transient = isinstance(error, TransientFaultError)
                waiting.faults += 1
                if not transient or waiting.faults > self._parameters.max_request_retries:
                    failed = RequestFailedError(f"{error}, {waiting.faults} time(s)") if transient else error
                    self._waiting.pop(key).answer.set_exception(failed)
            return None
        if answer is not None and key in self._reserved:
            answer = self._reserved.pop(key).charge(answer)
        return None if answer is None else question.answered(answer)

    def _read(self, waiting: _Waiting | None, result: dict[str, Any], latency_s: float) -> Answer | None:
        """The answer in a line's result, or ``None`` if only its form was refused; raises what else went wrong."""
        response = result.get("response")
        if response is None:
            error = result.get("error") or {}
            raise TransientFaultError(f"the batch ended without an answer ({error.get('code', 'no result')})")
        status, body = response["status_code"], response.get("body")
        sent = {} if waiting is None else waiting.sent
        if status != 200:
            # The form in which an earlier run asked is not known: this run asks itself.
            if not sent or self._server.capabilities.refused(sent, status, error_in(body)):
                return None
            raise self._server.errors.of_status(status, body)
        answer = self._server.read(body, latency_s)
        if waiting is not None and sent:
            self._server.capabilities.taken(sent, waiting.question.schema)
        return answer

    def _take_back(self, path: Path, note: BatchNote, batch: Batch) -> None:
        """A batch that failed as a whole: nothing of it was worked on, and its questions are open again."""
        self._forget(path)
        faults = (batch.errors and batch.errors.data) or []
        too_many_tokens = any(fault.code == "token_limit_exceeded" for fault in faults)
        if not too_many_tokens or (len(note.questions) == 1 and not self._notes):
            reasons = "; ".join(fault.message or fault.code or "" for fault in faults[:3])
            said = self._server.errors.said({"message": reasons})
            raise TeacherError(f"the server refused {batch.id} as a whole: {said}")
        if not self._notes:
            # Otherwise the tokens of other batches leave no room, and the end of one of them is news.
            self._max_requests = len(note.questions) // 2
            logger.info("too many tokens: at most %d questions a batch from now on", self._max_requests)
            self._news.set()

    def _keep(self, path: Path, note: BatchNote, **changed: Any) -> None:
        self._notes[path] = note.model_copy(update=changed)
        write_text(path, self._notes[path].model_dump_json() + "\n")

    def _forget(self, path: Path) -> None:
        """Nothing more is to be had from a batch: what is still set aside for it was not billed."""
        for key in self._notes.pop(path).questions.keys() & self._reserved.keys():
            self._reserved.pop(key).unbilled()
        path.unlink()
