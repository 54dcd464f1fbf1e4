"""Annotating a data set: every training post through both stages, every test post through the first."""

import asyncio
import logging
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mulcot_rd.progress import progress
from mulcot_rd.schema import Post, TeacherRecord
from mulcot_rd.teacher.controller import Outcome, QuarantinedPost, annotate_reference, annotate_training_post
from mulcot_rd.teacher.errors import DryRunFinished, TeacherError
from mulcot_rd.teacher.estimate import estimate
from mulcot_rd.teacher.importer import ImportingTeacher
from mulcot_rd.teacher.ledger import Ledger, LedgeredProvider
from mulcot_rd.teacher.offline import OfflineTeacher
from mulcot_rd.teacher.openai_client import OpenAITeacher
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.provider import PostRole, Provider, Request
from mulcot_rd.teacher.summary import Verdicts, log_summary, stage_one_verdicts, summarise

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Annotation:
    """What the teacher came to.

    Attributes:
        reasoning: One record a training post, in the order of the posts (``D_rea^t``, Eqs. 3 and 4).
        references: The teacher's reasonings on the test split, never training data; unusable ones are missing.
        quarantine: Training posts that neither stage annotated.
        summary: Stage sizes, stage-one accuracy, retry statistics, tokens, cost, latency, quarantine and model names.
        stage_one: Stage one's labels beside the gold ones, of the splits ``train`` and ``test``.
    """

    reasoning: list[TeacherRecord]
    references: list[TeacherRecord]
    quarantine: list[QuarantinedPost]
    summary: dict[str, Any]
    stage_one: dict[str, Verdicts]


def annotate(
    posts: list[Post],
    references_for: list[Post],
    parameters: TeacherParameters,
    ledger_path: Path,
    api_key: str | None = None,
) -> Annotation:
    """Annotate training posts and write references for test posts.

    Answers of a server are kept in the ledger; the same call after a kill goes on from there, and after the
    end asks nothing.

    Args:
        posts: Training posts ``x_i`` with their labels; the label is told in stage two alone.
        references_for: Posts of the test split, whose label is never told.
        parameters: The teacher's parameters.
        ledger_path: JSONL file of answers; made on the first answer of a server.
        api_key: Key of the server, or ``None`` to take ``OPENAI_API_KEY``.

    Raises:
        TeacherError: If the annotation can't go on; the message says why and what to do.
        DryRunFinished: At the end of a dry run.
        ImageError: If the image of a post is missing or broken.
    """
    if parameters.dry_run:
        logger.info("%s", _run(estimate(posts, references_for, parameters, ledger_path)))
        raise DryRunFinished("the dry run asked nothing; set teacher.dry_run=false to annotate")
    started = time.perf_counter()
    provider, ledgered = _build_provider(parameters, ledger_path, api_key)
    jobs: list[tuple[Post, PostRole]] = [(post, "reasoning") for post in posts]
    jobs += [(post, "reference") for post in references_for]
    outcomes = _run(_annotate_all(jobs, provider, parameters))
    taken = time.perf_counter() - started
    logger.info("annotated %d post(s) in %.1f s (%.1f a second)", len(jobs), taken, len(jobs) / max(taken, 1e-9))
    if ledgered is not None:
        logger.info("%d answer(s) asked for, %d taken from the ledger", ledgered.asked, ledgered.remembered)
    trained = [outcome for outcome in outcomes if outcome.role == "reasoning"]
    referred = [outcome for outcome in outcomes if outcome.role == "reference"]
    annotation = Annotation(
        reasoning=[outcome.record for outcome in trained if outcome.record is not None],
        references=[outcome.record for outcome in referred if outcome.record is not None],
        quarantine=[outcome.quarantined for outcome in trained if outcome.quarantined is not None],
        summary=summarise(trained, referred, provider.name, parameters.max_retries),
        stage_one={"train": stage_one_verdicts(trained), "test": stage_one_verdicts(referred)},
    )
    log_summary(annotation.summary)
    if annotation.quarantine and not annotation.reasoning:
        raise TeacherError(
            f"the teacher annotated none of {len(posts)} training posts, the first because "
            f"{annotation.quarantine[0].reason}; check teacher.model and the server"
        )
    return annotation


def _build_provider(
    parameters: TeacherParameters, ledger_path: Path, api_key: str | None
) -> tuple[Provider[Request], LedgeredProvider | None]:
    """The providers around each other: an import around the ledger around the client.

    The offline annotator has no ledger: it costs nothing and answers the same way every time.
    """
    ledgered: LedgeredProvider | None = None
    writer: Provider[Request]
    if parameters.writer == "openai":
        ledgered = LedgeredProvider(OpenAITeacher(parameters, api_key), Ledger(ledger_path), parameters)
        writer = ledgered
    else:
        writer = OfflineTeacher()
    if parameters.import_path is not None:
        return ImportingTeacher(Path(parameters.import_path), writer), ledgered
    return writer, ledgered


async def _annotate_all(
    jobs: list[tuple[Post, PostRole]], provider: Provider[Request], parameters: TeacherParameters
) -> list[Outcome]:
    """All posts, in order; both stages of different posts are in flight together."""
    outcomes: dict[int, Outcome] = {}
    waiting = iter(enumerate(jobs))
    # Twice as many posts as requests: the next image is encoded while every slot is taken.
    workers = min(len(jobs), 2 * parameters.max_concurrency)
    with progress(total=len(jobs), desc=f"teacher ({provider.name})", unit="post") as bar:

        async def work() -> None:
            for index, (post, role) in waiting:
                annotate_one = annotate_training_post if role == "reasoning" else annotate_reference
                outcomes[index] = await annotate_one(post, provider, parameters.max_retries)
                bar.update()

        tasks = [asyncio.create_task(work()) for _ in range(workers)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await provider.close()
    return [outcomes[index] for index in range(len(jobs))]


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to the end on an own event loop, in a thread of its own where this one has a loop (notebooks)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(asyncio.run, coroutine).result()
