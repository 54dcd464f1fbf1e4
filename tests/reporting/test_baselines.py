from collections import Counter

import pytest

from mulcot_rd.metrics import classification_scores
from mulcot_rd.reporting.baselines import (
    embeddings_logistic_regression,
    majority_baseline,
    measure_baselines,
    tfidf_logistic_regression,
)
from mulcot_rd.reporting.result_table import result_table
from mulcot_rd.schema import Post, Sentiment

NEG, NEU, POS = Sentiment
WORDS = {NEG: "awful sad terrible", NEU: "report table schedule", POS: "lovely happy great"}


def post(number: int, label: Sentiment, split: str = "train", text: str = "", aspect: str | None = None) -> Post:
    return Post(
        id=f"{split}-{number}", split=split, text=text or WORDS[label], aspect=aspect, image="none.jpg", label=label
    )


def test_the_majority_is_that_of_the_training_labels():
    assert majority_baseline([POS, POS, NEG], [NEG] * 4) == [POS] * 4
    assert majority_baseline([POS, NEG], [POS]) == [NEG]
    with pytest.raises(ValueError, match="needs training labels"):
        majority_baseline([], [POS])


def test_words_that_tell_the_classes_apart_are_learned():
    train = [post(number, label) for number in range(5) for label in Sentiment]
    test = [post(number, label, "test", WORDS[label].split()[0]) for number, label in enumerate(Sentiment)]
    assert tfidf_logistic_regression(train, test, seed=0) == [NEG, NEU, POS]


def test_the_aspect_counts_and_is_not_mixed_up_with_the_text():
    train = [
        post(number, label, text="storm meets sun", aspect=aspect)
        for number in range(5)
        for label, aspect in ((NEG, "storm"), (POS, "sun"))
    ]
    test = [post(0, NEG, "test", "storm meets sun", "storm"), post(1, POS, "test", "storm meets sun", "sun")]
    assert tfidf_logistic_regression(train, test, seed=0) == [NEG, POS]


def test_what_words_mean_tells_posts_apart_that_share_no_word():
    train = [post(number, label) for number in range(5) for label in Sentiment]
    test = [post(0, NEG, "test", "dreadful and sorrowful"), post(1, POS, "test", "wonderful and joyful")]
    assert embeddings_logistic_regression(train, test, seed=0) == [NEG, POS]


def test_few_posts_or_one_class_are_enough():
    assert tfidf_logistic_regression([post(0, NEU)], [post(0, POS, "test")], seed=0) == [NEU]
    assert tfidf_logistic_regression([post(0, NEU), post(1, POS)], [post(0, POS, "test")], seed=0) == [POS]


@pytest.mark.parametrize(("split", "said"), [("train", "1 training and 0 test"), ("test", "0 training and 1 test")])
def test_an_empty_split_leaves_the_baselines_empty_with_the_reason(caplog, split, said):
    measured = measure_baselines([post(0, POS, split)], seed=0)
    empty = {"not_measured": f"there are {said} posts"}
    assert set(measured) == {"majority", "tfidf_logistic_regression", "embeddings_logistic_regression"}
    assert all(each == empty for each in measured.values())
    assert f"the baseline majority is left empty: there are {said} posts" in caplog.text
    table = result_table({}, measured, "cafe", "arch4-tiny-full", "tiny")
    assert table["source"].tolist() == [f"not measured: there are {said} posts"] * 3
    assert table["accuracy"].isna().all()


def test_one_test_post_of_one_class_is_measured(no_warnings):
    measured = measure_baselines([post(0, POS), post(1, POS), post(2, POS, "test")], seed=0)
    for scores in measured.values():
        assert (scores["accuracy"], scores["accuracy_interval"]) == (1, [1, 1])


@pytest.mark.slow
def test_real_twitter_2015(twitter2015, no_warnings):
    assert Counter(each.split for each in twitter2015) == {"train": 3179, "dev": 1122, "test": 1037}
    train, test = ([post for post in twitter2015 if post.split == split] for split in ("train", "test"))
    labels = [post.label for post in test]
    most = majority_baseline([post.label for post in train], labels)
    assert classification_scores(most, labels)["accuracy"] == pytest.approx(0.585, abs=0.001)
    words = tfidf_logistic_regression(train, test, seed=42)
    assert classification_scores(words, labels)["accuracy"] == pytest.approx(0.63, abs=0.015)
    # Of all posts embeddings reach 0.676; they take a minute.
    meant = embeddings_logistic_regression(train[::4], test[::4], seed=42)
    scores, others = (classification_scores(given, labels[::4]) for given in (meant, words[::4]))
    assert scores["macro_f1"] > others["macro_f1"] + 0.05


def test_emoji_alone_leave_the_words_baseline_empty_with_its_reason():
    posts = [
        post(number, label, split, "\U0001f600")
        for split in ("train", "test")
        for number, label in enumerate(Sentiment)
    ]
    measured = measure_baselines(posts, seed=0)
    assert measured["majority"]["accuracy"] == pytest.approx(1 / 3)
    assert measured["tfidf_logistic_regression"] == {"not_measured": "no training post holds a word"}
    rows = result_table({}, measured, "mine", "run", "tiny").set_index("method")
    assert rows.loc["TF-IDF + logistic regression", "source"] == "not measured: no training post holds a word"
