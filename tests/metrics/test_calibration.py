"""Probabilities of labels: one temperature, its effect on the calibration error, and the surest posts."""

import numpy as np
import pytest

from mulcot_rd.metrics.calibration import confidence_scores, fit_temperature, negative_log_likelihood
from mulcot_rd.schema import Sentiment

LABELS = list(Sentiment)


def drawn(posts: int, factor: float) -> tuple[list[list[float]], list[Sentiment]]:
    """Labels drawn from known probabilities, and scores that are too sharp by a factor."""
    generator = np.random.default_rng(1)
    logits = generator.normal(scale=1.5, size=(posts, 3))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = [LABELS[generator.choice(3, p=share)] for share in shares]
    return (factor * logits).tolist(), labels


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_what_made_the_scores_too_sharp(factor):
    scores, labels = drawn(4000, factor)
    temperature = fit_temperature(scores, labels)
    assert temperature == pytest.approx(factor, rel=0.08)
    best = negative_log_likelihood(scores, labels, temperature)
    assert best <= min(negative_log_likelihood(scores, labels, other) for other in (1.0, 0.9 * temperature, 2.0))
    assert confidence_scores(scores, labels, temperature)["expected_calibration_error"] < 0.03


def test_sharp_scores_have_a_calibration_error():
    scores, labels = drawn(4000, 3.0)
    assert confidence_scores(scores, labels, 1.0)["expected_calibration_error"] > 0.1


def test_where_every_post_is_right_no_lower_temperature_is_chosen():
    assert fit_temperature([[5.0, 0.0, 0.0]], [Sentiment.NEGATIVE]) == 1
    assert fit_temperature([[5.0, 0.0, 0.0]], [Sentiment.NEUTRAL]) == pytest.approx(10, rel=0.01)
    with pytest.raises(ValueError, match="no posts"):
        fit_temperature([], [])


def test_scores_of_four_posts_by_hand():
    shares = [[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.5, 0.3, 0.2]]
    labels = [Sentiment.NEGATIVE, Sentiment.NEUTRAL, Sentiment.POSITIVE, Sentiment.POSITIVE]
    said = confidence_scores(np.log(shares).tolist(), labels, 1.0)
    assert said["negative_log_likelihood"] == pytest.approx(-np.log([0.9, 0.8, 0.6, 0.2]).mean())
    assert said["expected_calibration_error"] == pytest.approx((0.1 + 0.2 + 0.4 + 0.5) / 4)
    assert [one["posts"] for one in said["reliability"]] == [1, 1, 1, 1]
    assert said["accuracy_by_coverage"]["1.00"] == 0.75
    assert said["accuracy_by_coverage"]["0.75"] == said["accuracy_by_coverage"]["0.05"] == 1


def test_scores_may_be_shifted_for_each_post():
    scores, labels = drawn(50, 1.0)
    shifted = [[score - 1000 * number for score in row] for number, row in enumerate(scores)]
    assert fit_temperature(shifted, labels) == pytest.approx(fit_temperature(scores, labels), rel=1e-3)
