import pytest

from mulcot_rd.metrics.summary import model_scores, teacher_scores
from mulcot_rd.schema import Post, PredictionRecord, Sentiment, TeacherRecord

SECTIONS = dict.fromkeys(("text_analysis", "image_analysis", "conflict_resolution", "final_conclusion"), "Some words.")
LABELS = [*Sentiment] * 8


@pytest.fixture
def predictions() -> list[PredictionRecord]:
    wrong = {0: None, 1: Sentiment.NEGATIVE, 2: Sentiment.NEUTRAL}
    return [
        PredictionRecord(
            id=str(number),
            label=label,
            prediction=wrong.get(number, label),
            reasoning_prediction=label,
            raw_text=f"Some words of post {number}." if number else "",
            raw_label_text="",
            attempts=1,
            label_attempts=1,
            **SECTIONS,
        )
        for number, label in enumerate(LABELS)
    ]


def references() -> list[TeacherRecord]:
    return [
        TeacherRecord(id=str(number), stage=1, label=label, prediction=label, attempts=1, model="m", **SECTIONS)
        for number, label in enumerate(LABELS)
    ]


def posts() -> list[Post]:
    return [
        Post(id=str(number), split="test", text="A post", aspect=None, image="1.jpg", label=label)
        for number, label in enumerate(LABELS)
    ]


def test_every_score_has_an_interval_that_holds_it(predictions):
    scores = model_scores(predictions, references()[:6], seed=1, name="student")
    metrics = (
        *("accuracy", "weighted_f1", "macro_f1", "valid_rate", "agreement"),
        *("reasoning_accuracy", "reasoning_macro_f1", "reasoning_valid_rate"),
        *("sim", "meteor", "bleu", "rouge_l", "dist_1", "dist_2"),
    )
    assert set(scores["intervals"]) == set(metrics)
    for metric in metrics:
        low, high = scores["intervals"][metric]
        assert low <= scores[metric] + 1e-12, metric
        assert scores[metric] <= high + 1e-12, metric
    assert scores["accuracy_interval"] == scores["intervals"]["accuracy"]
    assert scores["agreement"] == pytest.approx(21 / 24)
    assert scores["reasoning_pairs"] == 6


def test_without_references_only_diversity_is_known(predictions):
    scores = model_scores(predictions, [], seed=1, name="student")
    assert scores["sim"] is None
    assert "sim" not in scores["intervals"]
    assert scores["dist_1"] > 0.8
    assert teacher_scores([], [], seed=1) == {}


def test_the_teacher_is_scored_as_it_answered_and_its_texts_as_references():
    scores = teacher_scores(references(), posts(), seed=1)
    assert scores["teacher"]["accuracy"] == 1
    assert scores["teacher"]["intervals"]["macro_f1"] == [1, 1]
    assert set(scores["references"]) == {"dist_1", "dist_2"}


def test_a_post_that_the_teacher_never_answered_usably_is_an_error_of_the_teacher():
    scores = teacher_scores(references()[:18], posts(), seed=1)["teacher"]
    assert (scores["accuracy"], scores["valid_rate"], scores["posts"]) == (0.75, 0.75, 24)
    assert scores["confusion"] == {
        "negative": {"negative": 6, "neutral": 0, "positive": 0, "unreadable": 2},
        "neutral": {"negative": 0, "neutral": 6, "positive": 0, "unreadable": 2},
        "positive": {"negative": 0, "neutral": 0, "positive": 6, "unreadable": 2},
    }
