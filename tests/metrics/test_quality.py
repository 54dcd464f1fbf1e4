"""Qualities of a reasoning that need no reference."""

import pytest

from mulcot_rd.metrics.quality import (
    conclusion_label,
    faithful,
    modality_conflict,
    names_aspect,
    quality_scores,
    quotes,
    quotes_in_post,
    repeats_sentence,
    repetition,
)
from mulcot_rd.schema import Post, Reasoning, Sentiment


def reasoning(conclusion="It is positive.", text="It says 'love it'.", prediction=Sentiment.POSITIVE):
    return Reasoning(
        text_analysis=text,
        image_analysis="Bright colours.",
        conflict_resolution="They agree.",
        final_conclusion=conclusion,
        prediction=prediction,
    )


POST = Post(id="1", split="test", text="I  LOVE it, truly", aspect="Maple Lake", image="x.png", label="positive")


@pytest.mark.parametrize(
    ("conclusion", "label"),
    [
        ("The sentiment toward Maple Lake is positive.", "positive"),
        ("The text is positive and the image negative, so the whole is neutral.", "neutral"),
        ("The feeling is negative rather than positive.", "negative"),
        ("It is not negative but positive.", "positive"),
        ("The post is neither positive nor negative.", "neutral"),
        ("There is no clear leaning.", None),
        ("It doesn't feel positive.", None),
        ("It can\u2019t be called positive, it is neutral.", "neutral"),
        ("One cannot call it positive.", None),
        ("The sentiment is \u2018positive\u2019.", "positive"),
        ("", None),
        ("Overall POSITIVE!", "positive"),
    ],
)
def test_the_conclusion_comes_to_its_last_label_that_stands(conclusion, label):
    assert conclusion_label(reasoning(conclusion)) == label


def test_aspect_is_found_whatever_case_and_spacing():
    assert names_aspect(reasoning("MAPLE\n lake is liked."), "Maple Lake")
    assert not names_aspect(reasoning("Maple trees are liked."), "Maple Lake")


def test_quotes_are_looked_up_in_the_post():
    said = reasoning(text="It says 'love it', \"TRULY\" and 'hate'; the writer's tone is warm, it's clear.")
    assert quotes_in_post(said, POST) == [True, True, False]
    assert [said.text_analysis[start:end] for start, end, _ in quotes(said, POST)] == ["'love it'", '"TRULY"', "'hate'"]


def test_quotes_are_the_same_with_either_apostrophe_and_marks_alone_quote_nothing():
    post = POST.model_copy(update={"text": "it's great"})
    assert quotes_in_post(reasoning(text="It says \u201cit\u2019s great\u201d and trails off with '...'."), post) == [
        True
    ]


@pytest.mark.parametrize(
    ("changes", "with_aspect", "without"),
    [
        ({}, True, True),
        ({"text": "It says 'love it', and Maple Lake is 'lovely'."}, False, False),
        ({"text": "It reports facts."}, True, True),
        ({"conclusion": "Maple Lake is negative."}, False, False),
        ({"conclusion": "Maple Lake is loved."}, True, True),
        ({"conclusion": "The lake is positive."}, False, True),
    ],
)
def test_a_faithful_reasoning_names_its_aspect_quotes_the_post_and_concludes_no_other_label(
    changes, with_aspect, without
):
    written = reasoning(**{"conclusion": "Maple Lake is positive.", **changes})
    assert faithful(written, POST) is with_aspect
    assert faithful(written, POST.model_copy(update={"aspect": None})) is without


def test_a_modality_conflict_is_between_opposite_labels():
    def conflicting(text, image):
        said = reasoning(text=f"The wording reads as {text}.").model_copy(
            update={"image_analysis": f"It leans {image}."}
        )
        return modality_conflict(said)

    assert conflicting("positive", "negative")
    assert conflicting("negative", "positive")
    assert not conflicting("positive", "neutral")
    assert not conflicting("positive", "to no side")


def test_repetition_counts_what_comes_again():
    assert repetition("a b c d e f g h") == 0
    assert repetition("a b c d a b c d") == pytest.approx(1 / 5)
    assert repetition("so good " * 50) > 0.9
    assert repetition("too short") == 0
    assert repeats_sentence(reasoning("They all agree here.", text="They all  agree here. Yes."))
    assert not repeats_sentence(reasoning())


def test_scores_count_each_quality_over_what_it_applies_to():
    good, other, silent = reasoning(), reasoning("It is negative."), reasoning("Hard to say.")
    coarse = POST.model_copy(update={"aspect": None})
    scores = quality_scores([good, other, silent], ["one two"] * 3, [POST, coarse, coarse], seed=1)
    assert scores["complete"] == 1
    bare = Reasoning(prediction=Sentiment.POSITIVE)
    assert quality_scores([good, bare], ["one two"] * 2, [POST, POST], seed=1)["complete"] == 0.5
    assert scores["conclusion_entails"] == pytest.approx(1 / 3)
    assert scores["conclusion_contradicts"] == pytest.approx(1 / 3)
    assert scores["aspect_named"] == 0
    assert scores["quotes_grounded"] == 1
    assert scores["quotes"] == 3
    assert scores["intervals"]["conclusion_entails"][0] <= 1 / 3 <= scores["intervals"]["conclusion_entails"][1]


def test_nothing_to_count_is_no_score():
    coarse = POST.model_copy(update={"aspect": None})
    scores = quality_scores([reasoning(text="No quotation.")], ["x"], [coarse], seed=1)
    assert scores["aspect_named"] is None
    assert scores["quotes_grounded"] is None
    assert "aspect_named" not in scores["intervals"]
