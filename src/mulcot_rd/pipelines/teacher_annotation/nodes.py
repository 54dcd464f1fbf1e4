"""Nodes of the pipeline teacher_annotation."""

from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.frames import posts_from_frame
from mulcot_rd.metrics.summary import stage_one_scores
from mulcot_rd.parameters import RunParameters
from mulcot_rd.schema import TeacherRecord
from mulcot_rd.teacher import QuarantinedPost, TeacherParameters, annotate
from mulcot_rd.teacher.report import teacher_report


def annotate_posts(
    posts: pd.DataFrame,
    teacher: TeacherParameters,
    credentials: dict[str, Any],
    ledger: Path,
    run: RunParameters,
) -> tuple[list[TeacherRecord], list[TeacherRecord], list[QuarantinedPost], dict[str, Any], str]:
    """Let the teacher annotate the training split in two stages, write references on the test split, and report."""
    annotation = annotate(
        posts_from_frame(posts, "train"),
        posts_from_frame(posts, "test"),
        teacher,
        ledger,
        credentials.get("api_key"),
    )
    stage_one = {
        split: stage_one_scores(verdicts.predictions, verdicts.labels, seed=run.seed)
        for split, verdicts in annotation.stage_one.items()
        if verdicts.labels
    }
    summary = {**annotation.summary, "stage_one": stage_one}
    report = teacher_report(summary, f"{run.dataset}, {run.name}")
    return annotation.reasoning, annotation.references, annotation.quarantine, summary, report
