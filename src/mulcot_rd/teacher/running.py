"""Working through many questions at once, on an event loop of one's own, to the end or to an orderly stop."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from mulcot_rd.progress import progress
from mulcot_rd.teacher.errors import BudgetReachedError
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.questions import Answer
from mulcot_rd.teacher.server import Server

logger = logging.getLogger(__name__)

T = TypeVar("T")
JobT = TypeVar("JobT")
AnswerTo = Callable[[Any], Awaitable[Answer]]


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to the end on an own event loop, in a thread of its own where this one has a loop (notebooks).

    An interruption stops it in either case, in the orderly way of :func:`ask_server`.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = Future()

    async def beside() -> T:
        task = asyncio.current_task()
        assert task is not None
        started.set_result((asyncio.get_running_loop(), task))
        return await coroutine

    with ThreadPoolExecutor(max_workers=1) as executor:
        result = executor.submit(asyncio.run, beside())
        try:
            return result.result()
        except KeyboardInterrupt:
            # The interruption reaches this thread alone; the other one would go on asking, and paying, to the end.
            loop, task = started.result()
            if not result.done():
                loop.call_soon_threadsafe(task.cancel)
            raise


async def ask_server(
    jobs: Sequence[JobT],
    work: Callable[[JobT, AnswerTo], Awaitable[T]],
    parameters: TeacherParameters,
    ledger_path: Path,
    api_key: str | None,
    unit: str,
) -> list[T]:
    """Do all jobs with the configured server's answers, behind a progress bar.

    Where one of them ends everything, or the user interrupts, answers that are on their way are still waited for and
    written down: they are paid for. A second interruption gives them up.

    Args:
        jobs: What is to be done.
        work: Does one job; it is given what answers a question.
        parameters: Server, model and limits.
        ledger_path: JSONL file of answers; what it has is not asked again.
        api_key: Key of the server, or ``None`` to take ``OPENAI_API_KEY``.
        unit: What a job is about, for the bar.

    Returns:
        The results, in the order of the jobs whatever the order in which they came.

    Raises:
        TeacherError: If the server can answer nothing at all.
        BudgetReachedError: With the number of jobs that are open.
    """
    server = Server(parameters, ledger_path, api_key)
    # Twice as many jobs as requests: the next image is encoded while every slot is taken.
    workers = len(jobs) if parameters.mode == "batch" else min(len(jobs), 2 * parameters.max_concurrency)
    results: dict[int, T] = {}
    waiting = iter(enumerate(jobs))
    with progress(total=len(jobs), desc="teacher (openai)", unit=unit) as bar:

        async def worker() -> None:
            for index, job in waiting:
                results[index] = await work(job, server.answer)
                bar.set_postfix_str(server.status(), refresh=False)
                bar.update()

        tasks = [asyncio.create_task(worker()) for _ in range(workers)]
        try:
            await asyncio.gather(*tasks)
        except BaseException as error:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.drain()
            if isinstance(error, BudgetReachedError):
                raise BudgetReachedError(
                    f"{error}; {len(jobs) - len(results)} of {len(jobs)} {unit}s are open and what was answered is "
                    "kept: raise teacher.budget_usd and run the same command again to go on"
                ) from None
            raise
        finally:
            await server.close()
    logger.info("%d answer(s) asked for, %d taken from the ledger", server.asked, server.remembered)
    return [results[index] for index in range(len(jobs))]
