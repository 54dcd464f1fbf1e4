"""How sure a figure is: bootstrap intervals and McNemar's test."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from mulcot_rd.metrics.classification import CLASSES, UNREADABLE, as_names
from mulcot_rd.schema import Sentiment

Metric = Literal["accuracy", "macro_f1"]


class Interval(NamedTuple):
    """The ends of a confidence interval, in the unit of the figure."""

    low: float
    high: float


class McNemar(NamedTuple):
    """McNemar's test of two models on the same posts: the posts that only one got right, and the p value."""

    only_a_right: int
    only_b_right: int
    p_value: float


def bootstrap_mean_interval(
    values: Sequence[float], seed: int, *, resamples: int = 1000, level: float = 0.95
) -> Interval:
    """Percentile bootstrap interval of a mean, such as that of a reasoning metric over its pairs.

    Args:
        values: One value a post.
        seed: Seed of the resampling.
        resamples: Number of resamples.
        level: Confidence level, between 0 and 1.

    Raises:
        ValueError: If there are no values.
    """
    if len(values) == 0:
        raise ValueError("there are no values to bootstrap: give at least one")
    return _percentile_interval((np.asarray(values, dtype=float),), np.mean, seed, resamples, level)


def bootstrap_interval(
    predictions: Sequence[Sentiment | str | None],
    labels: Sequence[Sentiment | str],
    metric: Metric,
    seed: int,
    *,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of a classification metric, the posts resampled with replacement.

    Args:
        predictions: A label or ``None`` for each post.
        labels: The gold label of each post.
        metric: ``accuracy`` or ``macro_f1``, as in :func:`mulcot_rd.metrics.classification_scores`.
        seed: Seed of the resampling.
        resamples: Number of resamples.
        level: Confidence level, between 0 and 1.

    Raises:
        ValueError: If there are no posts, the lengths differ, or a label or the metric is unknown.
    """
    statistics: dict[str, Callable[..., np.ndarray]] = {"accuracy": _accuracy, "macro_f1": _macro_f1}
    if metric not in statistics:
        raise ValueError(f"no interval for the metric {metric!r}: choose one of {', '.join(statistics)}")
    code = {name: index for index, name in enumerate((*CLASSES, UNREADABLE))}
    sides = [np.array([code[name] for name in names]) for names in as_names(predictions, labels)]
    return _percentile_interval(tuple(sides), statistics[metric], seed, resamples, level)


def mcnemar(
    predictions_a: Sequence[Sentiment | str | None],
    predictions_b: Sequence[Sentiment | str | None],
    labels: Sequence[Sentiment | str],
) -> McNemar:
    """McNemar's exact test: whether two models differ in accuracy on the same posts.

    Returns:
        The two counts of posts that only one model got right, and the two-sided binomial p value (1 where the
        models are right on the same posts).

    Raises:
        ValueError: If there are no posts, the lengths differ, or a label is unknown.
    """
    a, gold = as_names(predictions_a, labels)
    b, _ = as_names(predictions_b, labels)
    only_a = sum(x == z != y for x, y, z in zip(a, b, gold, strict=True))
    only_b = sum(y == z != x for x, y, z in zip(a, b, gold, strict=True))
    differing = only_a + only_b
    p_value = stats.binomtest(only_a, differing, 0.5).pvalue if differing else 1.0
    return McNemar(only_a, only_b, float(p_value))


def _percentile_interval(
    samples: tuple[np.ndarray, ...], statistic: Callable[..., np.ndarray], seed: int, resamples: int, level: float
) -> Interval:
    if len(samples[0]) == 1:
        # scipy refuses a single observation; every resample of it is itself.
        value = float(np.asarray(statistic(*samples, axis=-1)))
        return Interval(value, value)
    interval = stats.bootstrap(
        samples,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(interval.low), float(interval.high))


def _accuracy(predicted: np.ndarray, gold: np.ndarray, axis: int) -> np.ndarray:
    return np.mean(predicted == gold, axis=axis)


def _macro_f1(predicted: np.ndarray, gold: np.ndarray, axis: int) -> np.ndarray:
    """Mean F1 of the three classes along an axis of class numbers; a class on neither side counts 0."""
    scores = []
    for index in range(len(CLASSES)):
        shared = np.sum((predicted == index) & (gold == index), axis=axis)
        named = np.sum(predicted == index, axis=axis) + np.sum(gold == index, axis=axis)
        scores.append(2 * shared / np.maximum(named, 1))
    return np.mean(scores, axis=0)
