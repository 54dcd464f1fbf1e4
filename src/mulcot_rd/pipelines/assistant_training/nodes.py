"""Nodes of the pipeline assistant_training."""

from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.pipelines.posts import check_teacher_reasoning, model_posts
from mulcot_rd.pipelines.roles import RoleParameters, base_model_for, untrained
from mulcot_rd.schema import CaptionRecord, TeacherRecord
from mulcot_rd.teacher import QuarantinedPost
from mulcot_rd.training.assistant import train_assistant


def train_assistant_adapter(
    posts: pd.DataFrame,
    captions: list[CaptionRecord],
    teacher_reasoning: list[TeacherRecord],
    quarantine: list[QuarantinedPost],
    assistant: RoleParameters,
    models: Path,
) -> dict[str, Any]:
    """Train the assistant on its tasks (Eqs. 5 and 6), unless the variant trains none."""
    check_teacher_reasoning(posts, teacher_reasoning, quarantine)
    rows = model_posts(posts, captions, assistant.inputs)
    base = base_model_for(rows, teacher_reasoning, assistant, models)
    if not assistant.method.trains_assistant:
        return untrained("assistant", assistant, base, rows, models)
    return train_assistant(
        rows,
        teacher_reasoning,
        assistant.backbone,
        base,
        assistant.training,
        assistant.generation,
        image_size=assistant.inputs.image_size,
        seed=assistant.seed,
        models=models,
        shown=assistant.inputs.presentation,
        tasks=assistant.method.tasks,
    )
