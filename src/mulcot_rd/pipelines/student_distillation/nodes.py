"""Nodes of the pipeline student_distillation."""

from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.generation import GenerationParameters
from mulcot_rd.models import BackboneParameters
from mulcot_rd.parameters import InputParameters, MethodParameters, RunParameters
from mulcot_rd.pipelines.posts import check_training_set, model_posts
from mulcot_rd.pipelines.roles import base_model_for
from mulcot_rd.schema import CaptionRecord, TeacherRecord, TrainingRow
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
    teacher_reasoning: list[TeacherRecord],
    backbone: BackboneParameters,
    training: StudentTrainingParameters,
    generation: GenerationParameters,
    inputs: InputParameters,
    run: RunParameters,
    method: MethodParameters,
    models: Path,
) -> dict[str, Any]:
    """Distil the student from hard and soft labels (Eqs. 9 to 13), unless the variant trains none."""
    check_training_set(posts, training_set, quarantine)
    rows = model_posts(posts, captions, captions_needed)
    base = base_model_for(rows, teacher_reasoning, backbone, inputs, run, models)
    if not method.trained:
        return untrained_role("student", backbone, base, rows, models)
    return distil_student(
        rows,
        training_set,
        soft_labels,
        backbone,
        base,
        training,
        generation,
        image_size=inputs.image_size,
        seed=run.seed,
        models=models,
        shown=inputs.presentation,
        tasks=method.tasks,
    )
