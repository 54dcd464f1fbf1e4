"""Nodes of the pipeline assistant_training."""

from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.pipelines.posts import check_teacher_reasoning, model_posts
from mulcot_rd.pipelines.roles import base_model_for
from mulcot_rd.schema import CaptionRecord, TeacherRecord
from mulcot_rd.teacher import QuarantinedPost
from mulcot_rd.training.assistant import train_assistant
from mulcot_rd.training.parameters import RoleParameters
from mulcot_rd.training.roles import untrained_role


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
        return untrained_role("assistant", assistant, base, rows, models)
    return train_assistant(assistant, rows, teacher_reasoning, base, models)
