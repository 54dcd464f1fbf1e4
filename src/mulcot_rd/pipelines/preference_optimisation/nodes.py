"""Nodes of the pipeline preference_optimisation."""

from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.errors import UserError
from mulcot_rd.pipelines.posts import model_posts
from mulcot_rd.preference import STUDENT_PREFERENCE
from mulcot_rd.preference.job import optimise_preferences
from mulcot_rd.preference.parameters import PreferenceParameters
from mulcot_rd.schema import CaptionRecord, PreferencePair
from mulcot_rd.training.manifest import check_fits
from mulcot_rd.training.parameters import ModelParameters


def optimise_student(
    posts: pd.DataFrame,
    captions: list[CaptionRecord],
    preference_pairs: list[PreferencePair],
    student_adapter: dict[str, Any],
    student: ModelParameters,
    preference: PreferenceParameters,
    models: Path,
) -> dict[str, Any]:
    """Train the distilled student on preference pairs, itself as the reference.

    A variant without preference optimisation has no such student.

    Raises:
        UserError: If there are no pairs.
    """
    if not student.method.preference:
        return {"role": STUDENT_PREFERENCE, "trained": False}
    every = model_posts(posts, captions, student.inputs, {"preference_pairs": preference_pairs})
    check_fits(student_adapter, every, student)
    if not preference_pairs:
        raise UserError(
            "there are no preference pairs: lower preference.pairs.margin, or raise preference.pairs.samples"
        )
    return optimise_preferences(student_adapter, preference_pairs, every, student, preference.training, models)
