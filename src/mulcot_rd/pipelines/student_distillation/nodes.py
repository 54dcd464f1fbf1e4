"""Nodes of the pipeline student_distillation."""

from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.generation import GenerationParameters
from mulcot_rd.models import BackboneParameters
from mulcot_rd.parameters import InputParameters, MethodParameters, RunParameters
from mulcot_rd.pipelines.posts import check_training_set, model_posts
from mulcot_rd.schema import CaptionRecord, TrainingRow
from mulcot_rd.teacher import QuarantinedPost
from mulcot_rd.training.parameters import StudentTrainingParameters
from mulcot_rd.training.roles import untrained_role
from mulcot_rd.training.soft_labels import SoftLabels
from mulcot_rd.training.student import distil_student


def distil_student_adapter(
    posts: pd.DataFrame,
    captions: list[CaptionRecord],
    captions_needed: bool,
    training_set: list[TrainingRow],
    quarantine: list[QuarantinedPost],
    soft_labels: SoftLabels | None,
    prepared: dict[str, Any],
    backbone: BackboneParameters,
    training: StudentTrainingParameters,
    generation: GenerationParameters,
    inputs: InputParameters,
    run: RunParameters,
    method: MethodParameters,
    workspace: Path,
) -> dict[str, Any]:
    """Distil the student from hard and soft labels (Eqs. 9 to 13), unless the variant trains none."""
    check_training_set(posts, training_set, quarantine)
    rows = model_posts(posts, captions, captions_needed)
    if not method.trained:
        return untrained_role("student", backbone, prepared, rows, folder=workspace)
    return distil_student(
        rows,
        training_set,
        soft_labels,
        backbone,
        prepared,
        training,
        generation,
        image_size=inputs.image_size,
        seed=run.seed,
        folder=workspace,
        shown=inputs.presentation,
        tasks=method.tasks,
    )
