import numpy as np
import pytest

from mulcot_rd.metrics import (
    bootstrap_interval,
    bootstrap_mean_interval,
    classification_scores,
    holm,
    mcnemar,
    seed_spread,
)
from mulcot_rd.schema import Sentiment

NEG, NEU, POS = Sentiment


@pytest.fixture
def noisy():
    rng = np.random.default_rng(1)
    labels = [tuple(Sentiment)[index] for index in rng.integers(0, 3, 300)]
    predictions = [label if rng.random() < 0.7 else (None, *Sentiment)[rng.integers(0, 4)] for label in labels]
    return predictions, labels


@pytest.mark.parametrize("metric", ["accuracy", "weighted_f1", "macro_f1", "valid_rate"])
def test_the_interval_holds_the_score_and_repeats_with_its_seed(noisy, metric):
    interval = bootstrap_interval(*noisy, metric, seed=3)
    assert interval.low < classification_scores(*noisy)[metric] < interval.high
    assert interval.high - interval.low < 0.15
    assert interval == bootstrap_interval(*noisy, metric, seed=3)
    if metric != "valid_rate":  # A rate of few distinct values may well repeat.
        assert interval != bootstrap_interval(*noisy, metric, seed=4)


def test_the_accuracy_interval_is_as_wide_as_the_normal_approximation(noisy):
    accuracy = classification_scores(*noisy)["accuracy"]
    half = 1.96 * np.sqrt(accuracy * (1 - accuracy) / 300)
    low, high = bootstrap_interval(*noisy, "accuracy", seed=0)
    assert (low, high) == pytest.approx((accuracy - half, accuracy + half), abs=0.01)


def test_every_resample_is_scored_as_classification_scores_does(noisy):
    # All posts alike: every resample is the sample, and so are both ends of the interval.
    predictions, labels = [POS] * 5, [POS] * 5
    for metric in ("weighted_f1", "macro_f1", "valid_rate"):
        score = classification_scores(predictions, labels)[metric]
        assert bootstrap_interval(predictions, labels, metric, seed=0) == pytest.approx((score, score))


def test_intervals_lie_around_their_own_metric():
    # Wrong on the rare class alone: the weighted mean is high, the plain mean is not.
    labels = [POS] * 180 + [NEG] * 20
    predictions = [POS] * 200
    weighted = bootstrap_interval(predictions, labels, "weighted_f1", seed=0)
    macro = bootstrap_interval(predictions, labels, "macro_f1", seed=0)
    assert weighted.low > 0.75 > 0.4 > macro.high


def test_a_single_post_gives_an_interval_of_no_width():
    assert bootstrap_interval([POS], [POS], "accuracy", seed=0) == (1.0, 1.0)
    assert bootstrap_mean_interval([0.25], seed=0) == (0.25, 0.25)


def test_the_interval_of_a_mean():
    values = np.random.default_rng(0).normal(0.5, 0.1, 400)
    low, high = bootstrap_mean_interval(values.tolist(), seed=0)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * 0.1 / 20, rel=0.2)
    with pytest.raises(ValueError, match="no values to bootstrap"):
        bootstrap_mean_interval([], seed=0)


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="choose one of accuracy, weighted_f1, macro_f1, valid_rate"):
        bootstrap_interval([POS], [POS], "bleu", seed=0)


def test_mcnemar_is_the_exact_binomial_test_of_the_posts_that_differ():
    labels = [POS] * 10
    a = [POS] * 6 + [NEG] * 4
    b = [NEU] * 5 + [POS] * 5
    # a alone right on 5 posts, b alone on 4: two-sided binomial p of 5 in 9 is 1.
    assert mcnemar(a, b, labels) == (5, 4, pytest.approx(1.0))
    # 6 to none: 2 / 2^6.
    assert mcnemar([POS] * 6, [None] * 6, [POS] * 6) == (6, 0, pytest.approx(2 / 64))
    assert mcnemar([None] * 6, [POS] * 6, [POS] * 6) == (0, 6, pytest.approx(2 / 64))
    assert mcnemar(labels, labels, labels) == (0, 0, 1.0)


def test_holm_by_hand():
    # Sorted 0.01, 0.03, 0.04 times 3, 2, 1; the last can't fall below the one before it.
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []
    with pytest.raises(ValueError, match=r"p value 1 is 1\.5"):
        holm([0.5, 1.5])


def test_mean_and_deviation_over_seeds():
    assert seed_spread([0.7, 0.8, 0.9]) == pytest.approx((0.8, 0.1))
    with pytest.raises(ValueError, match="needs two of them or more; there are 1"):
        seed_spread([0.7])
