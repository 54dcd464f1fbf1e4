"""The teacher behind the Batch API: questions are gathered, asked together at half the price, and answered hours later.

It is a provider like any other, so retries and stage two come back through the same controller and become the next
batch. Questions are sent once no new one has come for ``QUIET_S``: by then every post waits for an answer, and a
batch that is sent too early is a smaller one, nothing worse.

Killed at any moment, the next run finds the batches again (``batch_jobs``) and pays for nothing twice. Lines that
failed in a way that heals, or that the server didn't get to in time, are asked again in the next batch.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openai.types import Batch
from tqdm import tqdm

from mulcot_rd.progress import progress
from mulcot_rd.teacher.batch_api import BatchAPI
from mulcot_rd.teacher.batch_files import InputFile, LineResult, read_results, write_input_files
from mulcot_rd.teacher.batch_jobs import BatchFolder, BatchJob
from mulcot_rd.teacher.errors import RequestFailedError, TeacherError
from mulcot_rd.teacher.ledger import Ledger, question_key
from mulcot_rd.teacher.openai_client import OpenAITeacher
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.provider import Answer, Question
from mulcot_rd.teacher.transport import TransientFaultError

logger = logging.getLogger(__name__)

QUIET_S = 0.5
# The time between two looks at a batch grows by a half each time, up to as many times ``poll_seconds``.
SLOWEST_POLL = 10
MEGABYTE = 1_000_000
TOO_MANY_TOKENS = "token_limit_exceeded"


@dataclass(eq=False)
class _Waiting:
    """A question whose answer is awaited, and how often a batch came back without one."""

    question: Question
    answer: asyncio.Future[Answer]
    faults: int = 0


class BatchTeacher:
    """A :class:`~mulcot_rd.teacher.provider.Provider` over the Batch API."""

    name = "openai batch"

    def __init__(self, server: OpenAITeacher, parameters: TeacherParameters, ledger: Ledger, ledger_path: Path) -> None:
        """Take up the batches that an earlier run left.

        Args:
            server: The connection; it also forms requests and reads answers.
            parameters: The teacher's parameters.
            ledger: Answers that are safe; a batch is forgotten once all of its answers are.
            ledger_path: Where the ledger is; the batches' folder is beside it.

        Raises:
            TeacherError: If the notes on earlier batches can't be read, or those are another server's.
        """
        self._server = server
        self._api = BatchAPI(server)
        self._parameters = parameters
        self._ledger = ledger
        self._folder = BatchFolder(ledger_path)
        self._most_requests = parameters.batch.max_requests
        self._waiting: dict[str, _Waiting] = {}
        self._queue: dict[str, _Waiting] = {}
        self._under_way: dict[str, BatchJob] = {}
        self._results: dict[str, LineResult] = {}
        self._latency_s: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._batches: set[asyncio.Task[None]] = set()
        self._resumed: asyncio.Task[None] | None = None
        self._new_question = asyncio.Event()
        self._failure: BaseException | None = None
        self._lock = contextlib.ExitStack()
        self._bar = _Bar()
        for job in self._folder.jobs:
            if job.base_url != self._api.base_url:
                raise TeacherError(
                    f"a batch of an earlier run is at {job.base_url}: set teacher.base_url back to it, or delete "
                    f"{self._folder.path} to have its questions asked again"
                )

    async def answer(self, question: Question) -> Answer:
        """Wait for the batch that brings the answer.

        Raises:
            ImageError: If the question's image is missing or broken.
            RequestFailedError: If this question is refused, or failed too often.
            TeacherError: If a batch was refused or cancelled, or the server is gone.
        """
        if self._resumed is None:
            self._resumed = asyncio.create_task(self._resume())
        await asyncio.shield(self._resumed)
        if self._failure is not None:
            raise self._failure
        key = question_key(question, self._parameters)
        waiting = _Waiting(question, asyncio.get_running_loop().create_future())
        self._waiting[key] = waiting
        if key in self._results:
            self._settle(key, self._results.pop(key))
        elif key not in self._under_way:
            self._enqueue(key, waiting)
        try:
            return await waiting.answer
        finally:
            self._waiting.pop(key, None)
            self._queue.pop(key, None)

    async def close(self) -> None:
        """Stop waiting; batches that are under way go on at the server and are collected by the next run."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._folder.forget_settled(self._is_safe)
        self._lock.close()
        self._bar.close()
        await self._server.close()
        if self._folder.jobs:
            logger.info("%d batch(es) are under way: run the same command again to collect them", len(self._under_way))

    async def _resume(self) -> None:
        """Find the batches of earlier runs, and from now on send what is asked."""
        self._lock.enter_context(self._folder.alone())
        self._folder.forget_settled(self._is_safe)
        for job in self._folder.jobs:
            if job.collected:
                self._results.update((key, result) for key, result in self._read(job).items() if result.status == 200)
                continue
            if job.batch_id is not None:
                self._go_through(job)
                continue
            found = await self._api.find(job.name)
            if found is None:
                # Killed before the batch was created: nothing was paid for, so its questions are asked anew.
                self._folder.forget(job)
            else:
                self._go_through(self._folder.note_created(job, found.id))
        self._spawn(self._send_when_quiet())

    def _enqueue(self, key: str, waiting: _Waiting) -> None:
        self._queue[key] = waiting
        self._new_question.set()

    async def _send_when_quiet(self) -> None:
        while True:
            await self._new_question.wait()
            while self._new_question.is_set():
                self._new_question.clear()
                await asyncio.sleep(QUIET_S)
            queue, self._queue = self._queue, {}
            files = write_input_files(
                self._folder.input_path,
                self._bodies(queue),
                self._most_requests,
                self._parameters.batch.max_megabytes * MEGABYTE,
            )
            async for file in files:
                self._go_through(await self._create(file))

    async def _bodies(self, queue: dict[str, _Waiting]) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        for key, waiting in queue.items():
            # Its asker may be gone by now.
            if not waiting.answer.done():
                yield key, await self._server.body(waiting.question)

    async def _create(self, file: InputFile) -> BatchJob:
        job = self._folder.begin(self._api.base_url, file.keys)
        input_file_id = await self._api.upload(file.path, job.name)
        batch = await self._api.create(input_file_id, job.name, self._parameters.batch.completion_window)
        logger.info("%s: %d question(s) sent", batch.id, len(job.keys))
        return self._folder.note_created(job, batch.id)

    def _go_through(self, job: BatchJob) -> None:
        self._under_way.update(dict.fromkeys(job.keys, job))
        self._batches.add(self._spawn(self._see_through(job)))

    async def _see_through(self, job: BatchJob) -> None:
        """Wait for a batch's end and give out what it brought."""
        batch = await self._await_end(job)
        for key in job.keys:
            del self._under_way[key]
        if batch.status == "failed":
            await self._take_back(job, batch)
            return
        files = [file_id for file_id in (batch.output_file_id, batch.error_file_id) if file_id is not None]
        job = self._folder.note_results(job, [await self._api.download(file_id) for file_id in files])
        results = self._read(job)
        ended = batch.completed_at or batch.expired_at or batch.cancelled_at
        self._latency_s.update(dict.fromkeys(results, float(ended - batch.created_at) if ended else 0.0))
        logger.info("%s is %s with %d of %d result(s)", batch.id, batch.status, len(results), len(job.keys))
        unanswered = 0
        for key in job.keys:
            result = results.get(key) or LineResult(key, None, {}, None)
            if result.status is None and batch.status == "cancelled":
                unanswered += 1
            elif key in self._waiting:
                self._settle(key, result)
            else:
                self._results[key] = result
        if unanswered:
            # Let the askers of what was answered write it down first.
            await asyncio.sleep(0)
            raise TeacherError(
                f"{batch.id} was cancelled with {unanswered} question(s) open; run the same command again to ask those"
            )

    async def _await_end(self, job: BatchJob) -> Batch:
        """Look at a batch until it is over; a server that can't be reached for a while ends no batch."""
        poll_s = first_poll_s = self._parameters.batch.poll_seconds
        assert job.batch_id is not None
        while True:
            try:
                batch = await self._api.retrieve(job.batch_id)
            except RequestFailedError as error:
                logger.warning("the state of %s is not known (%s); looking again", job.batch_id, error)
            else:
                self._bar.show(job, batch)
                if batch.status in ("completed", "failed", "expired", "cancelled"):
                    return batch
            await asyncio.sleep(poll_s)
            poll_s = min(1.5 * poll_s, SLOWEST_POLL * first_poll_s)

    async def _take_back(self, job: BatchJob, batch: Batch) -> None:
        """A batch that failed as a whole, of which nothing was worked on: too many tokens at once, or its form."""
        faults = (batch.errors.data if batch.errors else None) or []
        said = "; ".join(fault.message or fault.code or "" for fault in faults[:3]) or "it doesn't say why"
        self._folder.forget(job)
        if not any(fault.code == TOO_MANY_TOKENS for fault in faults):
            raise TeacherError(f"the server refused {batch.id} as a whole: {said}")
        others = {task for task in self._batches if not task.done() and task is not asyncio.current_task()}
        if others:
            # It is their tokens that leave no room.
            await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
        elif len(job.keys) == 1:
            raise TeacherError(f"the server takes not even one question as a batch now: {said}")
        else:
            self._most_requests = max(1, len(job.keys) // 2)
            logger.info("%s; at most %d questions a batch from now on", said, self._most_requests)
            await asyncio.sleep(self._parameters.batch.poll_seconds)
        for key in job.keys:
            if key in self._waiting:
                self._enqueue(key, self._waiting[key])

    def _settle(self, key: str, result: LineResult) -> None:
        """Give a result to the asker, or have the question asked again."""
        waiting = self._waiting[key]
        if waiting.answer.done():
            return
        try:
            waiting.answer.set_result(self._outcome(result))
        except TransientFaultError as fault:
            waiting.faults += 1
            if waiting.faults > self._parameters.max_request_retries:
                waiting.answer.set_exception(RequestFailedError(f"{fault.reason}, {waiting.faults} time(s)"))
            else:
                self._enqueue(key, waiting)
        except (RequestFailedError, TeacherError) as error:
            waiting.answer.set_exception(error)

    def _outcome(self, result: LineResult) -> Answer:
        if result.status is None:
            raise TransientFaultError(f"the batch ended without an answer ({result.code or 'no result'})")
        if result.status != 200:
            raise self._server.fault_of_response(result.status, result.body)
        return self._server.read(result.body, self._latency_s.pop(result.key, 0.0))

    def _read(self, job: BatchJob) -> dict[str, LineResult]:
        return read_results(self._folder.results(job))

    def _is_safe(self, key: str) -> bool:
        return self._ledger.get(key) is not None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """What ends one batch ends all: whoever waits learns why."""
        self._tasks.discard(task)
        self._batches.discard(task)
        if task.cancelled() or task.exception() is None:
            return
        self._failure = self._failure or task.exception()
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                waiting.answer.set_exception(self._failure)


class _Bar:
    """A progress bar of the lines of all batches, with the states that these are in."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._lines: dict[str, tuple[int, int]] = {}
        self._states: dict[str, str] = {}

    def show(self, job: BatchJob, batch: Batch) -> None:
        """Show a batch as it stands now."""
        counts = batch.request_counts
        self._lines[batch.id] = (counts.completed + counts.failed if counts else 0, len(job.keys))
        self._states[batch.id] = batch.status
        if self._bar is None:
            self._bar = progress(total=0, desc="batches", unit="line")
        self._bar.total = sum(total for _, total in self._lines.values())
        states = Counter(self._states.values())
        self._bar.set_postfix_str(", ".join(f"{count} {state}" for state, count in states.items()), refresh=False)
        self._bar.update(sum(done for done, _ in self._lines.values()) - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def refuse_unfinished_batches(ledger_path: Path, ledger: Ledger) -> None:
    """Keep questions that are in a batch from being asked, and paid for, online as well.

    Raises:
        TeacherError: If a batch of an earlier run has, or may yet have, answers that the ledger lacks.
    """
    folder = BatchFolder(ledger_path)
    folder.forget_settled(lambda key: ledger.get(key) is not None)
    if folder.jobs:
        raise TeacherError(
            f"{len(folder.jobs)} batch(es) of an earlier run are not collected: run the same command with "
            f"teacher.mode=batch to collect them, or delete {folder.path} to have their questions asked again"
        )
