"""Nodes of the pipeline student_distillation."""

from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.frames import posts_from_frame
from mulcot_rd.generation import GenerationParameters
from mulcot_rd.models import BackboneParameters
from mulcot_rd.parameters import InputParameters, RunParameters
from mulcot_rd.schema import TrainingRow
from mulcot_rd.training.parameters import StudentTrainingParameters
from mulcot_rd.training.soft_labels import SoftLabels
from mulcot_rd.training.student import distil_student


def distil_student_adapter(
    posts: pd.DataFrame,
    training_set: list[TrainingRow],
    soft_labels: SoftLabels,
    prepared: dict[str, Any],
    backbone: BackboneParameters,
    training: StudentTrainingParameters,
    generation: GenerationParameters,
    inputs: InputParameters,
    run: RunParameters,
    workspace: Path,
) -> dict[str, Any]:
    """Distil the student from hard and soft labels (Eqs. 9 to 13)."""
    return distil_student(
        posts_from_frame(posts),
        training_set,
        soft_labels,
        backbone,
        prepared,
        training,
        generation,
        image_size=inputs.image_size,
        seed=run.seed,
        folder=workspace,
    )
