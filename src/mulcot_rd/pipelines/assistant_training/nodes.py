"""Nodes of the pipeline assistant_training."""

from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.frames import posts_from_frame
from mulcot_rd.generation import GenerationParameters
from mulcot_rd.models import BackboneParameters
from mulcot_rd.parameters import InputParameters, RunParameters
from mulcot_rd.schema import TeacherRecord
from mulcot_rd.training.assistant import train_assistant
from mulcot_rd.training.parameters import AssistantTrainingParameters


def train_assistant_adapter(
    posts: pd.DataFrame,
    teacher_reasoning: list[TeacherRecord],
    prepared: dict[str, Any],
    backbone: BackboneParameters,
    training: AssistantTrainingParameters,
    generation: GenerationParameters,
    inputs: InputParameters,
    run: RunParameters,
    workspace: Path,
) -> dict[str, Any]:
    """Train the assistant on both tasks (Eqs. 5 and 6)."""
    return train_assistant(
        posts_from_frame(posts),
        teacher_reasoning,
        backbone,
        prepared,
        training,
        generation,
        image_size=inputs.image_size,
        seed=run.seed,
        folder=workspace,
    )
