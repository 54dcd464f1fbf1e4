"""Nodes of the pipeline student_distillation."""

from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.pipelines.posts import check_training_set, model_posts
from mulcot_rd.pipelines.roles import base_model_for
from mulcot_rd.schema import CaptionRecord, TrainingRow
from mulcot_rd.teacher import QuarantinedPost
from mulcot_rd.training.parameters import RoleParameters
from mulcot_rd.training.roles import untrained_role
from mulcot_rd.training.soft_labels import SoftLabels
from mulcot_rd.training.student import distil_student


def distil_student_adapter(
    posts: pd.DataFrame,
    captions: list[CaptionRecord],
    training_set: list[TrainingRow],
    quarantine: list[QuarantinedPost],
    soft_labels: SoftLabels | None,
    student: RoleParameters,
    models: Path,
) -> dict[str, Any]:
    """Distil the student from hard and soft labels (Eqs. 9 to 13), unless the variant trains none."""
    check_training_set(posts, training_set, quarantine)
    rows = model_posts(posts, captions, student.inputs)
    base = base_model_for(rows, [row for row in training_set if row.source == "teacher"], student, models)
    if not student.method.trained:
        return untrained_role("student", student, base, rows, models)
    return distil_student(student, rows, training_set, soft_labels, base, models)
