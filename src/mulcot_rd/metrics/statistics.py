"""How sure a score is: bootstrap intervals, deviation over seeds, McNemar's test and Holm's correction."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from scipy import stats

from mulcot_rd.metrics.classification import CLASSES, UNREADABLE, as_names
from mulcot_rd.schema import Sentiment

Metric = Literal["accuracy", "weighted_f1", "macro_f1", "valid_rate"]


class Interval(NamedTuple):
    """The ends of a confidence interval, in the unit of the figure."""

    low: float
    high: float


class SeedSpread(NamedTuple):
    """A score over runs that differ in their seed alone: mean and sample standard deviation, in its unit."""

    mean: float
    deviation: float


class McNemar(NamedTuple):
    """McNemar's test of two models on the same posts: the posts that only one got right, and the p value."""

    only_a_right: int
    only_b_right: int
    p_value: float


def bootstrap_mean_interval(values: Sequence[float], seed: int) -> Interval:
    """95 percent bootstrap interval of a mean over posts, such as that of a reasoning metric.

    Raises:
        ValueError: If there are no values.
    """
    if len(values) == 0:
        raise ValueError("there are no values to bootstrap: give at least one")
    return _percentile_interval((np.asarray(values, dtype=float),), np.mean, seed)


def bootstrap_interval(
    predictions: Sequence[Sentiment | str | None],
    labels: Sequence[Sentiment | str],
    metric: Metric,
    seed: int,
) -> Interval:
    """95 percent bootstrap interval of one of the :func:`mulcot_rd.metrics.classification_scores`, over the posts.

    Raises:
        ValueError: If there are no posts, the lengths differ, or a label or the metric is unknown.
    """
    statistics: dict[str, Callable[..., np.ndarray]] = {
        "accuracy": lambda predicted, gold, axis: np.mean(predicted == gold, axis=axis),
        "weighted_f1": _weighted_f1,
        "macro_f1": lambda predicted, gold, axis: np.mean(_class_f1(predicted, gold, axis), axis=0),
        "valid_rate": lambda predicted, gold, axis: np.mean(predicted != len(CLASSES), axis=axis),
    }
    if metric not in statistics:
        raise ValueError(f"no interval for the metric {metric!r}: choose one of {', '.join(statistics)}")
    code = {name: index for index, name in enumerate((*CLASSES, UNREADABLE))}
    sides = [np.array([code[name] for name in names]) for names in as_names(predictions, labels)]
    return _percentile_interval(tuple(sides), statistics[metric], seed)


def label_intervals(
    predictions: Sequence[Sentiment | None], labels: Sequence[Sentiment], seed: int
) -> dict[str, list[float]]:
    """The ends of the 95 percent bootstrap interval of every score of labels, by its name."""
    return {metric: list(bootstrap_interval(predictions, labels, metric, seed)) for metric in get_args(Metric)}


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


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p values that hold the family-wise error of all these tests together.

    Args:
        p_values: One a test.

    Returns:
        The corrected p values in the same order, none above 1, none below the plain one.

    Raises:
        ValueError: If one is not between 0 and 1.
    """
    for number, value in enumerate(p_values):
        if not 0 <= value <= 1:
            raise ValueError(f"p value {number} is {value}: it must lie between 0 and 1")
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def seed_spread(values: Sequence[float]) -> SeedSpread:
    """Mean and sample standard deviation (n - 1) of a score over seeds.

    Raises:
        ValueError: If there are fewer than two values: one seed says nothing about another.
    """
    if len(values) < 2:
        raise ValueError(f"a deviation over seeds needs two of them or more; there are {len(values)}")
    return SeedSpread(float(np.mean(values)), float(np.std(values, ddof=1)))


def _percentile_interval(samples: tuple[np.ndarray, ...], statistic: Callable[..., np.ndarray], seed: int) -> Interval:
    """95 percent percentile interval over posts, which are resampled 1,000 times with replacement."""
    if len(samples[0]) == 1:
        # scipy refuses a single observation; every resample of it is itself.
        value = float(np.asarray(statistic(*samples, axis=-1)))
        return Interval(value, value)
    interval = stats.bootstrap(
        samples,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=1000,
        confidence_level=0.95,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(interval.low), float(interval.high))


def _weighted_f1(predicted: np.ndarray, gold: np.ndarray, axis: int) -> np.ndarray:
    support = [np.mean(gold == index, axis=axis) for index in range(len(CLASSES))]
    return np.sum(np.multiply(_class_f1(predicted, gold, axis), support), axis=0)


def _class_f1(predicted: np.ndarray, gold: np.ndarray, axis: int) -> list[np.ndarray]:
    """F1 of each of the three classes along an axis of class numbers; a class on neither side counts 0."""
    scores = []
    for index in range(len(CLASSES)):
        shared = np.sum((predicted == index) & (gold == index), axis=axis)
        named = np.sum(predicted == index, axis=axis) + np.sum(gold == index, axis=axis)
        scores.append(2 * shared / np.maximum(named, 1))
    return scores
