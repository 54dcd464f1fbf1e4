"""From imitation to preference: pairs of reasonings, scored by what can be checked, and the training on them."""

from collections.abc import Mapping
from typing import Any

# The student after preference optimisation, as a model of its run.
STUDENT_PREFERENCE = "student_preference"
# All models of a run.
MODELS = ("assistant", "student", STUDENT_PREFERENCE)
# The datasets of preference optimisation, and what they hold in a variant without it, which has no files of them.
WITHOUT_PREFERENCES: Mapping[str, Any] = {
    "student_samples": [],
    "preference_pairs": [],
    "preference_statistics": {},
    "student_preference_adapter": {"role": STUDENT_PREFERENCE, "trained": False},
    "student_preference_test": [],
}
