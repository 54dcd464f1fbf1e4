"""Scores of labels with their intervals: of a teacher's stage one, and of baselines."""

from collections.abc import Sequence
from typing import Any

from mulcot_rd.metrics.classification import classification_scores, confusion_matrix
from mulcot_rd.metrics.statistics import label_intervals
from mulcot_rd.schema import Sentiment


def stage_one_scores(
    predictions: Sequence[Sentiment | None], labels: Sequence[Sentiment], *, seed: int
) -> dict[str, Any]:
    """A teacher's labels against the gold ones (its rows of Tables 3 and 4), as fractions.

    Args:
        predictions: The teacher's labels without having been told, ``None`` where no answer was usable.
        labels: The gold labels.
        seed: Of the bootstrap.

    Returns:
        What :func:`classification_scores` gives, ``intervals`` of it, ``posts``, and ``confusion`` (gold label ->
        answered label -> posts).

    Raises:
        ValueError: If there are no posts or the lengths differ.
    """
    return {**label_scores(predictions, labels, seed=seed), "confusion": confusion_matrix(predictions, labels)}


def label_scores(predictions: Sequence[Sentiment | None], labels: Sequence[Sentiment], *, seed: int) -> dict[str, Any]:
    """What :func:`classification_scores` gives, ``intervals`` of it, and ``posts``."""
    intervals = label_intervals(predictions, labels, seed)
    return {
        **classification_scores(predictions, labels),
        "accuracy_interval": intervals["accuracy"],
        "intervals": intervals,
        "posts": len(labels),
    }
