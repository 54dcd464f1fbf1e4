"""Nodes of the pipeline teacher_annotation."""

from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.frames import posts_from_frame
from mulcot_rd.schema import TeacherRecord
from mulcot_rd.teacher import QuarantinedPost, TeacherParameters, annotate


def annotate_posts(
    posts: pd.DataFrame, teacher: TeacherParameters, credentials: dict[str, Any], ledger: Path
) -> tuple[list[TeacherRecord], list[TeacherRecord], list[QuarantinedPost], dict[str, Any]]:
    """Let the teacher annotate the training split in two stages, and write references on the test split."""
    annotation = annotate(
        posts_from_frame(posts, "train"),
        posts_from_frame(posts, "test"),
        teacher,
        ledger,
        credentials.get("api_key"),
    )
    return annotation.reasoning, annotation.references, annotation.quarantine, annotation.summary
