"""The node that makes a role's backbone ready: the same for assistant and student."""

from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.frames import posts_from_frame
from mulcot_rd.models import BackboneParameters
from mulcot_rd.models.prepare import prepare_backbone
from mulcot_rd.parameters import InputParameters, RunParameters
from mulcot_rd.schema import TeacherRecord


def prepare_role(
    posts: pd.DataFrame,
    teacher_reasoning: list[TeacherRecord],
    backbone: BackboneParameters,
    inputs: InputParameters,
    run: RunParameters,
    workspace: Path,
) -> dict[str, Any]:
    """Build a role's tiny model, or name its full-size one."""
    return prepare_backbone(
        backbone,
        posts_from_frame(posts, "train"),
        teacher_reasoning,
        vocabulary_size=inputs.tiny_vocabulary_size,
        seed=run.seed,
        folder=workspace,
    )
