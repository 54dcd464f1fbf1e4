"""How far probabilities of labels can be trusted: one temperature, calibration error, accuracy of the surest posts.

Guo et al., On Calibration of Modern Neural Networks (2017); El-Yaniv and Wiener, On the Foundations of Noise-free
Selective Classification (2010). Scores are log-probabilities of the three labels up to a constant [posts, 3], in the
order of :class:`~mulcot_rd.schema.Sentiment`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from mulcot_rd.schema import Sentiment

_TEMPERATURES = (0.1, 10.0)
_BINS = 10
# Shares of the posts that are kept, from all of them down.
_COVERAGES = tuple(round(1 - 0.05 * step, 2) for step in range(20))

Scores = Sequence[Sequence[float]]


def negative_log_likelihood(scores: Scores, labels: Sequence[Sentiment], temperature: float) -> float:
    """Mean negative log-likelihood of the gold labels, in nats a post, with scores divided by the temperature."""
    return float(-np.mean(_log_probabilities(scores, temperature)[np.arange(len(labels)), _places(labels)]))


def fit_temperature(scores: Scores, labels: Sequence[Sentiment]) -> float:
    """The temperature of the highest likelihood, between 0.1 and 10.

    Where the likeliest label of every post is right, the likelihood rises with ever lower temperatures, which says
    nothing: the temperature is then not below 1.

    Raises:
        ValueError: If there are no posts.
    """
    if not labels:
        raise ValueError("there are no posts to fit a temperature on: give at least one")
    low, high = np.log(_TEMPERATURES)
    found = minimize_scalar(
        lambda log: negative_log_likelihood(scores, labels, float(np.exp(log))), bounds=(low, high), method="bounded"
    )
    temperature = float(np.exp(found.x))
    all_right = np.array_equal(np.argmax(scores, axis=1), _places(labels))
    return max(1.0, temperature) if all_right else temperature


def confidence_scores(scores: Scores, labels: Sequence[Sentiment], temperature: float) -> dict[str, Any]:
    """How good the probabilities of a split are.

    The likeliest label is the prediction, its probability the confidence.

    Returns:
        ``negative_log_likelihood``; ``expected_calibration_error`` (fraction), over ten bins of equal width;
        ``reliability``, of each bin that has posts their number, mean confidence and accuracy;
        ``accuracy_by_coverage``, the accuracy on the surest posts by their share, from all down to a twentieth.
    """
    probabilities = np.exp(_log_probabilities(scores, temperature))
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == _places(labels)
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    reliability = [
        {
            "posts": int((bins == number).sum()),
            "confidence": float(confidence[bins == number].mean()),
            "accuracy": float(right[bins == number].mean()),
        }
        for number in np.unique(bins)
    ]
    error = sum(one["posts"] * abs(one["confidence"] - one["accuracy"]) for one in reliability) / len(labels)
    surest = right[np.argsort(-confidence, kind="stable")]
    kept = [max(1, round(coverage * len(labels))) for coverage in _COVERAGES]
    return {
        "negative_log_likelihood": negative_log_likelihood(scores, labels, temperature),
        "expected_calibration_error": float(error),
        "reliability": reliability,
        "accuracy_by_coverage": {
            f"{coverage:.2f}": float(surest[:posts].mean()) for coverage, posts in zip(_COVERAGES, kept, strict=True)
        },
    }


def _log_probabilities(scores: Scores, temperature: float) -> np.ndarray:
    return log_softmax(np.asarray(scores, dtype=float) / temperature, axis=1)


def _places(labels: Sequence[Sentiment]) -> np.ndarray:
    order = list(Sentiment)
    return np.array([order.index(label) for label in labels])
