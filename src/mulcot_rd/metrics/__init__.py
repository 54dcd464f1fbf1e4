"""Metrics of labels and of reasonings (paper, Section 4.1.4), and how sure they are; all offline."""

from typing import TYPE_CHECKING, Any

from mulcot_rd.metrics.classification import agreement, classification_scores, confusion_matrix
from mulcot_rd.metrics.statistics import (
    Interval,
    McNemar,
    SeedSpread,
    bootstrap_interval,
    bootstrap_mean_interval,
    holm,
    label_intervals,
    mcnemar,
    seed_spread,
)

if TYPE_CHECKING:
    from mulcot_rd.metrics.reasoning import distinct, reasoning_scores, reasoning_scores_by_pair

__all__ = [
    "Interval",
    "McNemar",
    "SeedSpread",
    "agreement",
    "bootstrap_interval",
    "bootstrap_mean_interval",
    "classification_scores",
    "confusion_matrix",
    "distinct",
    "holm",
    "label_intervals",
    "mcnemar",
    "reasoning_scores",
    "reasoning_scores_by_pair",
    "seed_spread",
]


def __getattr__(name: str) -> Any:
    # Training needs labels alone, and no packages for texts.
    if name in ("distinct", "reasoning_scores", "reasoning_scores_by_pair"):
        from mulcot_rd.metrics import reasoning  # noqa: PLC0415

        return getattr(reasoning, name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
