"""A server's answers: only what the ledger lacks is asked, many questions at once, to the end or to an orderly stop."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mulcot_rd.extras import extra
from mulcot_rd.progress import progress
from mulcot_rd.teacher import dry_run
from mulcot_rd.teacher.errors import BudgetReachedError, TeacherError
from mulcot_rd.teacher.ledger import Ledger, LedgerQuestion, locked_ledger, question_key
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.questions import Answer, AnswerTo, Question

if TYPE_CHECKING:
    from mulcot_rd.teacher.openai_client import OpenAITeacher

logger = logging.getLogger(__name__)

T = TypeVar("T")
JobT = TypeVar("JobT")
Check = Callable[["OpenAITeacher"], Awaitable[None]]


def ask_server(
    jobs: Sequence[JobT],
    work: Callable[[JobT, AnswerTo], Awaitable[T]],
    parameters: TeacherParameters,
    ledger_path: Path,
    api_key: str | None,
    unit: str,
    check: Check | None = None,
) -> list[T]:
    """Do all jobs with the configured server's answers, behind a progress bar.

    ``work`` does one job, and is given what answers a question; ``unit`` is what a job is about: a post, an image. The
    results come in the order of the jobs. What the ledger (a JSONL file) has is not asked again. Beside it are kept
    what was spent (``.spending.jsonl``), the server's capabilities (``.server.json``) and open batches (``.batches``).
    Without ``api_key`` the key is :func:`~mulcot_rd.credentials.server_key`'s. ``check`` looks at the server before the
    first question that the ledger lacks; what it raises ends everything.

    Where one of them ends everything, or the user interrupts, answers that are on their way are still waited for and
    written down: they are paid for. A second interruption gives them up.

    Raises:
        TeacherError: If the server can answer nothing at all, or another process asks for the same ledger.
        BudgetReachedError: With the number of jobs that are open.
        DryRunFinished: In a dry run, if the ledger lacks an answer.
        ImageError: If an image is missing or broken.
    """
    if parameters.dry_run:
        results, reached = run(dry_run.follow(jobs, work, parameters, ledger_path, unit))
        if reached:
            dry_run.finish(reached, len(jobs), unit, parameters)
        return results
    # A notebook keeps a failed call's objects: the lock does not depend on them.
    with locked_ledger(ledger_path) as ledger:
        return run(Server(parameters, ledger, api_key, check).work_through(jobs, work, unit))


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to the end on an own event loop, in a thread of its own where this one has a loop (notebooks).

    An interruption stops it in either case, in the orderly way of :func:`ask_server`.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    started: Future[asyncio.Task[T]] = Future()

    async def beside() -> T:
        task = asyncio.create_task(coroutine)
        started.set_result(task)
        return await task

    with ThreadPoolExecutor(max_workers=1) as executor:
        result = executor.submit(asyncio.run, beside())
        try:
            return result.result()
        except KeyboardInterrupt:
            # The interruption reaches this thread alone; the other one would go on asking, and paying, to the end.
            task = started.result()
            if not result.done():
                task.get_loop().call_soon_threadsafe(task.cancel)
            raise


class Server:
    """Asks a server only what the ledger does not know, online or by batches; equal questions are sent once."""

    def __init__(self, parameters: TeacherParameters, ledger: Ledger, api_key: str | None, check: Check | None) -> None:
        """Open the configured server; raises ``TeacherError`` if a key is missing, or a batch is in the way."""
        # Imported here: only a server needs OpenAI's client.
        with extra("teacher"):
            from mulcot_rd.teacher.batch import BatchTeacher, open_batches  # noqa: PLC0415
            from mulcot_rd.teacher.openai_client import OpenAITeacher  # noqa: PLC0415

        by_batches = parameters.mode == "batch"
        notes = {} if by_batches else open_batches(parameters.model, ledger)
        self._in_batches = {key for note in notes.values() for key in note.questions}
        self._asked = self._remembered = 0
        self._parameters = parameters
        self._ledger = ledger
        self._in_flight: dict[str, asyncio.Task[Answer]] = {}
        self._client = OpenAITeacher(parameters, api_key, ledger)
        self._teacher = BatchTeacher(self._client, parameters, ledger) if by_batches else self._client
        self._check = check
        self._checked: asyncio.Future[None] | None = None

    async def answer(self, question: Question) -> Answer:
        """The ledger's answer, or the server's once it is on disk; errors are those of ``OpenAITeacher.answer``.

        Whoever gives up on waiting stops nothing: the answer may have been paid for.
        """
        key = question_key(question, self._parameters)
        if key not in self._ledger.answers and key not in self._in_flight:
            self._in_flight[key] = asyncio.create_task(self._ask(key, question))
        else:
            self._remembered += 1
        if key in self._ledger.answers:
            return self._ledger.answers[key]
        return await asyncio.shield(self._in_flight[key])

    async def _ask(self, key: str, question: Question) -> Answer:
        try:
            if key in self._in_batches:
                # It would be paid for online as well.
                raise TeacherError(
                    "batches of an earlier run are not collected: run the same command with teacher.mode=batch (for "
                    f"captions teacher.captions.mode=batch), or delete {self._ledger.batches} to have their questions "
                    "asked again"
                )
            if self._check is not None:
                self._checked = self._checked or asyncio.ensure_future(self._check(self._client))
                await asyncio.shield(self._checked)
            answer = await self._teacher.answer(key, question)
            self._asked += 1
            # A batch writes its answers itself, also those that nobody waits for.
            if key not in self._ledger.answers:
                await self._ledger.append(LedgerQuestion.of(key, question).answered(answer))
        finally:
            del self._in_flight[key]
        return answer

    async def work_through(
        self, jobs: Sequence[JobT], work: Callable[[JobT, AnswerTo], Awaitable[T]], unit: str
    ) -> list[T]:
        """Do all jobs, then close connections and files; see :func:`ask_server`."""
        # Twice as many jobs as requests: the next image is encoded while every slot is taken.
        at_once = len(jobs) if self._parameters.mode == "batch" else 2 * self._parameters.max_concurrency
        results: dict[int, T] = {}
        waiting = iter(enumerate(jobs))
        with progress(total=len(jobs), desc=self._parameters.model, unit=unit) as bar:

            async def worker() -> None:
                for index, job in waiting:
                    results[index] = await work(job, self.answer)
                    bar.set_postfix_str(self._client.status, refresh=False)
                    bar.update()

            tasks = [asyncio.create_task(worker()) for _ in range(min(len(jobs), at_once))]
            try:
                await asyncio.gather(*tasks)
            except BaseException as error:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                # Nothing more is asked, and the answers that are on their way are written down.
                await self._teacher.drain()
                await asyncio.gather(*self._in_flight.values(), return_exceptions=True)
                if isinstance(error, BudgetReachedError):
                    raise BudgetReachedError(
                        f"{error}; {len(jobs) - len(results)} of {len(jobs)} {unit}s are open and what was answered is "
                        "kept: raise teacher.budget_usd and run the same command again to go on"
                    ) from None
                raise
            finally:
                await self._teacher.close()
                await self._ledger.close()
        logger.info("%d answer(s) asked for, %d taken from the ledger", self._asked, self._remembered)
        return [results[index] for index in range(len(jobs))]
