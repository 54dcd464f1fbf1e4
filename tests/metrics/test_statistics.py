import numpy as np
import pytest

from mulcot_rd.metrics import bootstrap_interval, bootstrap_mean_interval, classification_scores, mcnemar
from mulcot_rd.schema import Sentiment

NEG, NEU, POS = Sentiment


@pytest.fixture
def noisy():
    rng = np.random.default_rng(1)
    labels = [tuple(Sentiment)[index] for index in rng.integers(0, 3, 300)]
    predictions = [label if rng.random() < 0.7 else (None, *Sentiment)[rng.integers(0, 4)] for label in labels]
    return predictions, labels


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_the_interval_holds_the_score_and_repeats_with_its_seed(noisy, metric):
    interval = bootstrap_interval(*noisy, metric, seed=3)
    assert interval.low < classification_scores(*noisy)[metric] < interval.high
    assert interval.high - interval.low < 0.15
    assert interval == bootstrap_interval(*noisy, metric, seed=3)
    assert interval != bootstrap_interval(*noisy, metric, seed=4)


def test_the_accuracy_interval_is_as_wide_as_the_normal_approximation(noisy):
    accuracy = classification_scores(*noisy)["accuracy"]
    half = 1.96 * np.sqrt(accuracy * (1 - accuracy) / 300)
    low, high = bootstrap_interval(*noisy, "accuracy", seed=0, resamples=4000)
    assert (low, high) == pytest.approx((accuracy - half, accuracy + half), abs=0.01)


def test_every_resample_is_scored_as_classification_scores_does(noisy):
    # All posts alike: every resample is the sample, and so are both ends of the interval.
    predictions, labels = [POS] * 5, [POS] * 5
    score = classification_scores(predictions, labels)["macro_f1"]
    assert bootstrap_interval(predictions, labels, "macro_f1", seed=0) == pytest.approx((score, score))


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
    with pytest.raises(ValueError, match="choose one of accuracy, macro_f1"):
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
