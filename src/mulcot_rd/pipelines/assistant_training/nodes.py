"""Nodes of the pipeline assistant_training."""

from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.pipelines.models import initial_checkpoint
from mulcot_rd.pipelines.posts import model_posts
from mulcot_rd.schema import CaptionRecord, TeacherRecord
from mulcot_rd.teacher import QuarantinedPost
from mulcot_rd.training.expansion import teacher_rows
from mulcot_rd.training.manifest import untrained_manifest
from mulcot_rd.training.parameters import ModelParameters
from mulcot_rd.training.train import train_model


def train_assistant_adapter(
    posts: pd.DataFrame,
    captions: list[CaptionRecord],
    teacher_reasoning: list[TeacherRecord],
    quarantine: list[QuarantinedPost],
    assistant: ModelParameters,
    models: Path,
) -> dict[str, Any]:
    """Train the assistant to classify and to reason, as the teacher reasoned (Eqs. 5 and 6).

    A variant without an assistant leaves it untrained.
    """
    all_posts = model_posts(posts, captions, assistant.inputs, {"teacher_reasoning": teacher_reasoning}, quarantine)
    checkpoint = initial_checkpoint(all_posts, teacher_reasoning, assistant, models)
    if not assistant.method.trains_assistant:
        return untrained_manifest("assistant", assistant, checkpoint, all_posts, models)
    return train_model("assistant", assistant, all_posts, teacher_rows(teacher_reasoning), None, checkpoint, models)
