"""Annotating a data set: every training post through both stages, every test post through the first."""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mulcot_rd.progress import progress
from mulcot_rd.schema import Post, TeacherRecord
from mulcot_rd.teacher import dry_run
from mulcot_rd.teacher.controller import Outcome, QuarantinedPost, annotate_post
from mulcot_rd.teacher.errors import TeacherError
from mulcot_rd.teacher.importer import import_for
from mulcot_rd.teacher.offline import answer_by_rules
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.questions import Answer, AnswerTo, PostRole, Request
from mulcot_rd.teacher.server import ask_server, run
from mulcot_rd.teacher.summary import StageOneLabels, log_summary, stage_one_labels, summarise

logger = logging.getLogger(__name__)

Job = tuple[Post, PostRole]


@dataclass(frozen=True)
class Annotation:
    """What the teacher came to."""

    reasoning: list[TeacherRecord]  # one record a training post, in the order of the posts (D_rea^t, Eqs. 3 and 4)
    rejected: list[TeacherRecord]  # stage one's, of training posts that it got wrong; never training data by itself
    references: list[TeacherRecord]  # on the test split, never training data; unusable ones are missing
    quarantine: list[QuarantinedPost]  # training posts that neither stage annotated
    summary: dict[str, Any]  # see mulcot_rd.teacher.summary.summarise
    stage_one: dict[str, StageOneLabels]  # its labels beside the gold ones, of the splits train and test


def annotate(
    posts: list[Post],
    references_for: list[Post],
    parameters: TeacherParameters,
    ledger_path: Path,
    api_key: str | None = None,
) -> Annotation:
    """Annotate training posts ``x_i`` in two stages, and write references for test posts, whose label is never told.

    Answers of a server are kept in the ledger, as :func:`~mulcot_rd.teacher.server.ask_server` does: the same call
    after a kill goes on from there, and after the end asks nothing.

    Raises:
        TeacherError: If the annotation can't go on; the message says why and what to do.
        DryRunFinished: At the end of a dry run.
        ImageError: If the image of a post is missing or broken.
    """
    jobs: list[Job] = [(post, "reasoning") for post in posts]
    jobs += [(post, "reference") for post in references_for]
    annotate_one = annotator(posts + references_for, parameters)

    async def annotate_here() -> list[Outcome]:
        return [await annotate_one(job, None) for job in progress(jobs, desc="teacher (offline)", unit="post")]

    started = time.perf_counter()
    if parameters.writer == "openai":
        outcomes = ask_server(jobs, annotate_one, parameters, ledger_path, api_key, "post")
    else:
        outcomes = run(annotate_here())
    if parameters.dry_run:
        dry_run.finish([], len(jobs), "post", parameters)
    taken = time.perf_counter() - started
    logger.info("annotated %d post(s) in %.1f s (%.1f a second)", len(jobs), taken, len(jobs) / max(taken, 1e-9))
    name = parameters.writer if parameters.import_path is None else f"import+{parameters.writer}"
    trained, referred = outcomes[: len(posts)], outcomes[len(posts) :]
    annotation = Annotation(
        reasoning=[outcome.record for outcome in trained if outcome.record is not None],
        rejected=[outcome.first for outcome in trained if len(outcome.stages) == 2 and outcome.first is not None],
        references=[outcome.record for outcome in referred if outcome.record is not None],
        quarantine=[outcome.quarantined for outcome in trained if outcome.quarantined is not None],
        summary=summarise(trained, referred, name, parameters.max_retries),
        stage_one={"train": stage_one_labels(trained), "test": stage_one_labels(referred)},
    )
    log_summary(annotation.summary)
    if annotation.quarantine and not annotation.reasoning:
        first = f"the teacher annotated none of {len(posts)} training posts, the first because "
        raise TeacherError(f"{first}{annotation.quarantine[0].reason}; check teacher.model and the server")
    return annotation


def annotator(posts: list[Post], parameters: TeacherParameters) -> Callable[[Job, AnswerTo | None], Awaitable[Outcome]]:
    """What takes one of these posts through its stages: the import file answers first, then the server or the rules.

    Raises:
        TeacherError: If the import file can't be used.
    """
    path = parameters.import_path
    imported = None if path is None else import_for(posts, Path(path))

    async def annotate_one(job: Job, server: AnswerTo | None) -> Outcome:
        async def answer_to(request: Request) -> Answer:
            if imported is not None and (answer := imported(request)) is not None:
                return answer
            return answer_by_rules(request) if server is None else await server(request)

        return await annotate_post(*job, answer_to, parameters.max_retries, parameters.send)

    return annotate_one
