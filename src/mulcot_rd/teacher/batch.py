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
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openai.types import Batch

from mulcot_rd.teacher.batch_api import BatchAPI
from mulcot_rd.teacher.batch_bar import BatchBar
from mulcot_rd.teacher.batch_files import InputFile, LineResult, read_results, write_input_files
from mulcot_rd.teacher.batch_jobs import BatchFolder, BatchJob
from mulcot_rd.teacher.budget import Reservation
from mulcot_rd.teacher.capabilities import FormRefusedError
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
OK = 200
TOO_MANY_TOKENS = "token_limit_exceeded"


@dataclass(eq=False)
class _Waiting:
    """A question whose answer is awaited.

    Attributes:
        question: The question.
        answer: The answer, once it is here.
        sent: The fields that its line had besides the messages.
        faults: How often a batch came back without an answer to it.
    """

    question: Question
    answer: asyncio.Future[Answer]
    sent: dict[str, Any] = field(default_factory=dict)
    faults: int = 0


class BatchTeacher:
    """A :class:`~mulcot_rd.teacher.provider.Provider` over the Batch API."""

    name = "openai batch"

    def __init__(self, server: OpenAITeacher, parameters: TeacherParameters, ledger: Ledger, ledger_path: Path) -> None:
        """Take up the notes on batches that an earlier run left.

        Args:
            server: The connection; it also forms requests, reads answers, and has the budget.
            parameters: The teacher's parameters.
            ledger: Answers that are safe; a batch is forgotten once all of its answers are.
            ledger_path: Where the ledger is; the batches' folder is beside it.

        Raises:
            TeacherError: If the notes can't be read, or the batches are another server's.
        """
        self._server = server
        self._api = BatchAPI(server)
        self._parameters = parameters
        self._ledger = ledger
        self._budget = server.budget
        self._folder = BatchFolder(ledger_path)
        self._most_requests = parameters.batch.max_requests
        # Questions by key: all that are waiting for an answer, and those of them that no batch has yet.
        self._waiting: dict[str, _Waiting] = {}
        self._queue: dict[str, _Waiting] = {}
        # Of what is in a batch: which one, and what was set aside for it.
        self._under_way: dict[str, BatchJob] = {}
        self._reserved: dict[str, Reservation] = {}
        # Answers that are here and were not asked for yet.
        self._answers: dict[str, Answer] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._batches: set[asyncio.Task[None]] = set()
        self._resumed: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._failure: BaseException | None = None
        self._lock = contextlib.ExitStack()
        self._bar = BatchBar()
        for job in self._folder.jobs_for(parameters.model):
            if job.base_url.rstrip("/") != server.base_url.rstrip("/"):
                raise TeacherError(
                    f"a batch of an earlier run is at {job.base_url}: set teacher.base_url back to it, or delete "
                    f"{self._folder.path} to have its questions asked again"
                )

    async def answer(self, question: Question) -> Answer:
        """Wait for the batch that brings the answer.

        Raises:
            ImageError: If the question's image is missing or broken.
            RequestFailedError: If this question is refused, or failed too often.
            TeacherError: If a batch was refused or cancelled, the budget is reached, or the server is gone.
        """
        if self._resumed is None:
            self._resumed = asyncio.create_task(self._resume())
        await asyncio.shield(self._resumed)
        if self._failure is not None:
            raise self._failure
        key = question_key(question, self._parameters)
        if key in self._answers:
            return self._answers.pop(key)
        waiting = _Waiting(question, asyncio.get_running_loop().create_future())
        self._waiting[key] = waiting
        if key not in self._under_way:
            self._enqueue(key)
        try:
            return await waiting.answer
        finally:
            self._waiting.pop(key, None)
            self._queue.pop(key, None)

    async def drain(self) -> None:
        """Send nothing more and wait for nothing: batches go on at the server, and the next run collects them."""
        tasks = [task for task in (*self._tasks, self._resumed) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._under_way:
            logger.info("the batches of %d question(s) go on: the same command collects them", len(self._under_way))
        self._give_up(TeacherError("the run is being stopped"))

    async def close(self) -> None:
        """Stop, and forget the batches that the ledger has all answers of."""
        await self.drain()
        noted = {key for job in self._folder.jobs for key in job.keys}
        unsent = self._reserved.keys() - noted
        for key in unsent:
            self._reserved.pop(key).unbilled()
        self._folder.note_reserving([key for key in self._folder.reserving if key not in unsent])
        self._folder.forget_settled(self._is_safe)
        self._lock.close()
        self._bar.close()
        await self._server.close()

    # --- what an earlier run left

    async def _resume(self) -> None:
        self._lock.enter_context(self._folder.alone())
        self._folder.forget_settled(self._is_safe)
        for job in self._folder.jobs_for(self._parameters.model):
            for key in job.keys:
                reservation = None if self._is_safe(key) else self._budget.take_over(key)
                if reservation is not None:
                    self._reserved[key] = reservation
            if job.collected:
                self._take(job)
            elif job.batch_id is not None:
                self._go_through(job)
            else:
                await self._find(job)
        # What was killed between setting money aside and sending has cost nothing.
        for key in self._folder.reserving:
            reservation = self._budget.take_over(key)
            if reservation is not None:
                reservation.unbilled()
        self._folder.note_reserving(())
        self._spawn(self._send_when_quiet())

    async def _find(self, job: BatchJob) -> None:
        """Find out whether the batch of a job was created before its process was killed."""
        batch = await self._api.find(job.name)
        if batch is not None:
            self._go_through(self._folder.note_created(job, batch.id))
            return
        self._folder.forget(job)
        self._release(job)

    # --- from questions to batches

    def _enqueue(self, key: str) -> None:
        self._queue[key] = self._waiting[key]
        self._news.set()

    async def _send_when_quiet(self) -> None:
        while True:
            await self._news.wait()
            while self._news.is_set():
                self._news.clear()
                await asyncio.sleep(QUIET_S)
            affordable = await self._reserve_for(dict(self._queue))
            files = write_input_files(
                self._folder.input_path,
                self._bodies(affordable),
                self._most_requests,
                self._parameters.batch.max_megabytes * MEGABYTE,
            )
            async for file in files:
                self._go_through(await self._create(file))

    async def _reserve_for(self, queue: dict[str, _Waiting]) -> dict[str, _Waiting]:
        """The questions that the budget has room for now; the others stay until a batch turned out cheaper.

        Raises:
            BudgetReachedError: If there is room for none, and no batch is under way.
        """
        reserved: list[str] = []

        async def try_one(key: str, waiting: _Waiting) -> None:
            reservation = await self._budget.try_reserve(key, waiting.question)
            if reservation is not None:
                self._reserved[key] = reservation
                reserved.append(key)

        if not queue:
            return {}
        if self._budget.priced:
            self._folder.note_reserving(tuple(queue))
        await asyncio.gather(*(try_one(key, waiting) for key, waiting in queue.items()))
        if not reserved and not self._batches:
            key, waiting = next(iter(queue.items()))
            self._reserved[key] = await self._budget.reserve(key, waiting.question)
            reserved.append(key)
        if self._budget.priced:
            self._folder.note_reserving(reserved)
        for key in reserved:
            self._queue.pop(key, None)
        return {key: queue[key] for key in reserved}

    async def _bodies(self, queue: dict[str, _Waiting]) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        for key, waiting in queue.items():
            body = await self._server.body(waiting.question)
            waiting.sent = {name: value for name, value in body.items() if name != "messages"}
            yield key, body

    async def _create(self, file: InputFile) -> BatchJob:
        job = self._folder.begin(self._server.base_url, self._parameters.model, file.keys)
        input_file_id = await self._api.upload(file.path, job.name)
        batch = await self._api.create(input_file_id, job.name, self._parameters.batch.completion_window)
        logger.info("%s: %d question(s) sent", batch.id, len(job.keys))
        return self._folder.note_created(job, batch.id)

    # --- from batches to answers

    def _go_through(self, job: BatchJob) -> None:
        self._under_way.update(dict.fromkeys(job.keys, job))
        self._batches.add(self._spawn(self._see_through(job)))

    async def _see_through(self, job: BatchJob) -> None:
        """Wait for a batch's end and give out what it brought."""
        batch = await self._await_end(job)
        if batch.status == "failed":
            await self._take_back(job, batch)
            return
        files = [file_id for file_id in (batch.output_file_id, batch.error_file_id) if file_id is not None]
        results = [await self._api.download(file_id) for file_id in files]
        ended = batch.completed_at or batch.expired_at or batch.cancelled_at or batch.created_at
        unanswered = self._take(self._folder.note_results(job, results, float(ended - batch.created_at)))
        logger.info("%s is %s, %d of %d answered", batch.id, batch.status, len(job.keys) - unanswered, len(job.keys))
        if batch.status == "cancelled" and unanswered:
            raise TeacherError(
                f"{batch.id} was cancelled with {unanswered} question(s) open; run the same command again to ask those"
            )
        # There may be room in the budget now.
        self._news.set()

    async def _await_end(self, job: BatchJob) -> Batch:
        """Look at a batch until it is over; a server that can't be reached for a while ends no batch."""
        assert job.batch_id is not None
        poll_s = first_poll_s = self._parameters.batch.poll_seconds
        while True:
            try:
                batch = await self._api.retrieve(job.batch_id, self._folder.path)
            except RequestFailedError as error:
                logger.warning("the state of %s is not known (%s); looking again", job.batch_id, error)
            else:
                self._bar.show(batch, len(job.keys))
                if batch.status in ("completed", "failed", "expired", "cancelled"):
                    return batch
            await asyncio.sleep(poll_s)
            poll_s = min(1.5 * poll_s, SLOWEST_POLL * first_poll_s)

    def _take(self, job: BatchJob) -> int:
        """Give out what a collected batch brought; how many of its questions got no answer."""
        results = read_results(self._folder.results(job))
        unanswered = 0
        for key in job.keys:
            self._under_way.pop(key, None)
            if self._is_safe(key):
                continue
            result = results.get(key) or LineResult(key, None, {}, None)
            try:
                answer = self._read(result, job.latency_s)
            except (FormRefusedError, TransientFaultError, RequestFailedError, TeacherError) as error:
                unanswered += 1
                self._refuse(key, error)
                continue
            reservation = self._reserved.pop(key, None)
            if reservation is not None:
                answer = _charged(answer, reservation)
            waiting = self._waiting.get(key)
            if waiting is None or waiting.answer.done():
                self._answers[key] = answer
            else:
                waiting.answer.set_result(answer)
        return unanswered

    def _read(self, result: LineResult, latency_s: float) -> Answer:
        if result.status is None:
            raise TransientFaultError(f"the batch ended without an answer ({result.code or 'no result'})")
        waiting = self._waiting.get(result.key)
        if result.status != OK:
            if waiting is not None and self._server.form_refused(waiting.sent, result.status, result.body):
                raise FormRefusedError
            raise self._server.fault_of_response(result.status, result.body)
        answer = self._server.read(result.body, latency_s)
        if waiting is not None:
            self._server.form_taken(waiting.sent, waiting.question.schema)
        return answer

    def _refuse(self, key: str, error: Exception) -> None:
        """No answer: the question is asked again where that may help."""
        transient = isinstance(error, TransientFaultError)
        reservation = self._reserved.pop(key, None)
        if reservation is not None:
            if transient and error.maybe_billed:
                reservation.lost()
            else:
                reservation.unbilled()
        waiting = self._waiting.get(key)
        if waiting is None or waiting.answer.done():
            return
        waiting.faults += transient
        if transient and waiting.faults > self._parameters.max_request_retries:
            waiting.answer.set_exception(RequestFailedError(f"{error.reason}, {waiting.faults} time(s)"))
        elif transient or isinstance(error, FormRefusedError):
            self._enqueue(key)
        else:
            waiting.answer.set_exception(error)

    async def _take_back(self, job: BatchJob, batch: Batch) -> None:
        """A batch that failed as a whole, of which nothing was worked on: too many tokens at once, or its form."""
        faults = (batch.errors.data if batch.errors else None) or []
        said = "; ".join(fault.message or fault.code or "" for fault in faults[:3]) or "it doesn't say why"
        said = self._server.said(said)
        self._folder.forget(job)
        self._release(job)
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
                self._enqueue(key)

    def _release(self, job: BatchJob) -> None:
        """Nothing of a job was worked on: it is no longer under way and costs nothing."""
        for key in job.keys:
            self._under_way.pop(key, None)
            if key in self._reserved:
                self._reserved.pop(key).unbilled()

    def _is_safe(self, key: str) -> bool:
        return self._ledger.get(key) is not None

    # --- tasks

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
        error = task.exception()
        assert error is not None
        self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        self._failure = self._failure or error
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                waiting.answer.set_exception(self._failure)


def _charged(answer: Answer, reservation: Reservation) -> Answer:
    """Settle an answer's cost; one whose tokens the server didn't count may have cost all that was set aside."""
    if answer.cost_usd is None and reservation.most_usd > 0:
        answer = answer.model_copy(update={"cost_usd": reservation.most_usd})
    reservation.answered(answer.cost_usd)
    return answer
