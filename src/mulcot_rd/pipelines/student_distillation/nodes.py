"""Nodes of the pipeline student_distillation."""

from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.pipelines.models import initial_checkpoint
from mulcot_rd.pipelines.posts import model_posts
from mulcot_rd.schema import CaptionRecord, TrainingRow
from mulcot_rd.teacher import QuarantinedPost
from mulcot_rd.training.manifest import untrained_manifest
from mulcot_rd.training.parameters import ModelParameters
from mulcot_rd.training.soft_labels import SoftLabels
from mulcot_rd.training.train import train_model


def distil_student_adapter(
    posts: pd.DataFrame,
    captions: list[CaptionRecord],
    training_set: list[TrainingRow],
    quarantine: list[QuarantinedPost],
    soft_labels: SoftLabels | None,
    student: ModelParameters,
    models: Path,
) -> dict[str, Any]:
    """Distil the student from the training set (hard labels) and the assistant's soft labels (Eqs. 9 to 13).

    A zero-shot variant leaves it untrained.
    """
    all_posts = model_posts(posts, captions, student.inputs, {"student_training_set": training_set}, quarantine)
    from_teacher = [row for row in training_set if row.source == "teacher"]
    checkpoint = initial_checkpoint(all_posts, from_teacher, student, models)
    if not student.method.trained:
        return untrained_manifest("student", student, checkpoint, all_posts, models)
    return train_model("student", student, all_posts, training_set, soft_labels, checkpoint, models)
