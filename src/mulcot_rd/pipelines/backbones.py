"""The node that makes a role's backbone ready: the same for assistant and student."""

from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.models import BackboneParameters
from mulcot_rd.models.prepare import prepare_backbone
from mulcot_rd.parameters import InputParameters, RunParameters
from mulcot_rd.pipelines.posts import check_teacher_reasoning, model_posts
from mulcot_rd.schema import CaptionRecord, TeacherRecord
from mulcot_rd.teacher import QuarantinedPost


def prepare_role(
    posts: pd.DataFrame,
    captions: list[CaptionRecord],
    captions_needed: bool,
    teacher_reasoning: list[TeacherRecord],
    quarantine: list[QuarantinedPost],
    backbone: BackboneParameters,
    inputs: InputParameters,
    run: RunParameters,
    workspace: Path,
) -> dict[str, Any]:
    """Build a role's tiny model, or name its full-size one."""
    check_teacher_reasoning(posts, teacher_reasoning, quarantine)
    return prepare_backbone(
        backbone,
        [post for post in model_posts(posts, captions, captions_needed) if post.split == "train"],
        teacher_reasoning,
        vocabulary_size=inputs.tiny_vocabulary_size,
        seed=run.seed,
        folder=workspace,
    )
