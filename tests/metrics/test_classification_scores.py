import numpy as np
import pytest
from sklearn.metrics import f1_score

from mulcot_rd.metrics import agreement, classification_scores
from mulcot_rd.schema import Sentiment

NEG, NEU, POS = Sentiment


def test_a_hand_computed_case():
    # positive: 1 of 2 found, 1 of 1 named right; neutral: 1 of 1 found, 1 of 2 named right; negative: none of 1.
    scores = classification_scores(["positive", "neutral", "neutral", None], [POS, POS, NEU, NEG])
    assert scores["accuracy"] == 0.5
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert scores["weighted_f1"] == pytest.approx((2 * 2 / 3 + 1 * 2 / 3 + 0) / 4)
    assert scores["majority_accuracy"] == 0.5
    assert scores["valid_rate"] == 0.75
    assert all(type(value) is float for value in scores.values())


def test_perfect_predictions_score_one():
    labels = [NEG, NEU, POS, POS]
    scores = classification_scores(labels, [label.value for label in labels])
    assert scores == {"accuracy": 1, "weighted_f1": 1, "macro_f1": 1, "majority_accuracy": 0.5, "valid_rate": 1}


def test_macro_f1_is_over_the_three_classes_even_if_one_never_occurs():
    assert classification_scores([POS, NEU], [POS, NEU])["macro_f1"] == pytest.approx(2 / 3)


def test_unreadable_answers_are_wrong_and_not_a_class():
    assert classification_scores([None] * 3, [NEG, NEU, POS]) == {
        "accuracy": 0,
        "weighted_f1": 0,
        "macro_f1": 0,
        "majority_accuracy": pytest.approx(1 / 3),
        "valid_rate": 0,
    }


def test_equals_scikit_learn_and_does_not_depend_on_the_order_of_posts():
    rng = np.random.default_rng(0)
    labels = [tuple(Sentiment)[index] for index in rng.integers(0, 3, 200)]
    predictions = [tuple(Sentiment)[index] for index in rng.integers(0, 3, 200)]
    scores = classification_scores(predictions, labels)
    assert scores["weighted_f1"] == pytest.approx(f1_score(labels, predictions, average="weighted"))
    order = rng.permutation(200)
    shuffled = classification_scores([predictions[index] for index in order], [labels[index] for index in order])
    assert shuffled == pytest.approx(scores)


@pytest.mark.parametrize(
    ("predictions", "labels", "message"),
    [
        ([POS], [POS, POS], "1 predictions can't be compared with 2 gold labels"),
        ([], [], "no predictions to score"),
        (["happy"], [POS], "prediction 0 is 'happy', not one of negative, neutral, positive"),
        ([POS, POS], [POS, "Positive"], "gold label 1 is 'Positive'"),
        ([POS], [None], "gold label 0 is None"),
        ([float("nan")], [POS], "prediction 0 is nan"),
    ],
)
def test_faults_are_said_in_a_sentence(predictions, labels, message):
    with pytest.raises(ValueError, match=message):
        classification_scores(predictions, labels)


def test_agreement_counts_readable_and_equal():
    assert agreement([POS, None, NEU, NEG], ["positive", None, "negative", None]) == 0.25
    with pytest.raises(ValueError, match="no label predictions"):
        agreement([], [])
    with pytest.raises(ValueError, match="2 label predictions can't be compared with 1 reasoning predictions"):
        agreement([POS, POS], [POS])
