"""Scores as cells of a table: which there are, in percent, with their intervals."""

from collections.abc import Mapping
from typing import Any

from mulcot_rd.numbers import interval_text, percentage

CLASSIFICATION_METRICS = ("accuracy", "weighted_f1", "macro_f1", "valid_rate", "agreement")
REASONING_METRICS = ("sim", "meteor", "bleu", "rouge_l", "dist_1", "dist_2")
REFERENCE_METRICS = {"reference_dist_1": "dist_1", "reference_dist_2": "dist_2"}


def percent(value: float | None, name: str) -> float | None:
    """A fraction in percent, not rounded, for :mod:`mulcot_rd.numbers` does that; ``None`` stays.

    Raises:
        ValueError: If the value is no fraction (Sim may be negative).
    """
    if value is None:
        return None
    if not (isinstance(value, float | int) and -1 <= value <= 1):
        raise ValueError(f"{name} is {value}: metrics are kept as fractions, 0 to 1")
    return percentage(value)


def fractions(scores: Mapping[str, Any]) -> dict[str, float]:
    """The scores of a block of metrics.json: counts, intervals and what was not measured stay away."""
    return {name: value for name, value in scores.items() if isinstance(value, float)}


def percents(scores: Mapping[str, Any]) -> dict[str, float | None]:
    """The same in percent."""
    return {metric: percent(value, metric) for metric, value in fractions(scores).items()}


def without_intervals(scores: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured alone: intervals are drawn with the run's seed, so runs that share a teacher differ in them."""
    return {name: value for name, value in scores.items() if "interval" not in name}


def intervals(scores: Mapping[str, Any]) -> dict[str, str]:
    """The intervals of a block of metrics.json, as cells."""
    # Runs of earlier versions have the accuracy's interval alone.
    known = {"accuracy": scores["accuracy_interval"]} if scores.get("accuracy_interval") else {}
    known |= scores.get("intervals", {})
    return {metric: interval_text(low, high) for metric, (low, high) in known.items()}
