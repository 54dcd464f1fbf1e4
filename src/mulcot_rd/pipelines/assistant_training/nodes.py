"""Nodes of the pipeline assistant_training."""

from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.generation import GenerationParameters
from mulcot_rd.models import BackboneParameters
from mulcot_rd.parameters import InputParameters, MethodParameters, RunParameters
from mulcot_rd.pipelines.posts import check_teacher_reasoning, model_posts
from mulcot_rd.pipelines.roles import base_model_for
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
    backbone: BackboneParameters,
    training: AssistantTrainingParameters,
    generation: GenerationParameters,
    inputs: InputParameters,
    run: RunParameters,
    method: MethodParameters,
    models: Path,
) -> dict[str, Any]:
    """Train the assistant on its tasks (Eqs. 5 and 6), unless the variant trains none."""
    check_teacher_reasoning(posts, teacher_reasoning, quarantine)
    rows = model_posts(posts, captions, captions_needed)
    base = base_model_for(rows, teacher_reasoning, backbone, inputs, run, models)
    if not method.trains_assistant:
        return untrained_role("assistant", backbone, base, rows, models)
    return train_assistant(
        rows,
        teacher_reasoning,
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
