"""Nodes of the pipeline assistant_training."""

from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.generation import GenerationParameters
from mulcot_rd.models import BackboneParameters
from mulcot_rd.parameters import InputParameters, MethodParameters, RunParameters
from mulcot_rd.pipelines.posts import check_teacher_reasoning, model_posts
from mulcot_rd.schema import CaptionRecord, TeacherRecord
from mulcot_rd.teacher import QuarantinedPost
from mulcot_rd.training.assistant import train_assistant
from mulcot_rd.training.parameters import AssistantTrainingParameters
from mulcot_rd.training.roles import untrained_role


def train_assistant_adapter(
    posts: pd.DataFrame,
    captions: list[CaptionRecord],
    captions_needed: bool,
    teacher_reasoning: list[TeacherRecord],
    quarantine: list[QuarantinedPost],
    prepared: dict[str, Any],
    backbone: BackboneParameters,
    training: AssistantTrainingParameters,
    generation: GenerationParameters,
    inputs: InputParameters,
    run: RunParameters,
    method: MethodParameters,
    workspace: Path,
) -> dict[str, Any]:
    """Train the assistant on its tasks (Eqs. 5 and 6), unless the variant trains none."""
    check_teacher_reasoning(posts, teacher_reasoning, quarantine)
    rows = model_posts(posts, captions, captions_needed)
    if not method.trains_assistant:
        return untrained_role("assistant", backbone, prepared, rows, folder=workspace)
    return train_assistant(
        rows,
        teacher_reasoning,
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
