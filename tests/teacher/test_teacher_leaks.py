"""The leak check finds what gives the told label away, and lets ordinary reasoning pass."""

import json

import pytest

from mulcot_rd.reasoning import parse
from mulcot_rd.schema import Reasoning
from mulcot_rd.teacher.leaks import find_leak


@pytest.mark.parametrize(
    "sentence",
    [
        "This matches the given label.",
        "The provided sentiment is negative, so the irony is clear.",
        "As stated in the task, the post is neutral.",
        "The ground truth is positive.",
        "I was told that this post is negative.",
        "According to the label, the writer is angry.",
        "The sentiment was already established as negative.",
        "Since the post is labeled as positive, the smile counts.",
        "It follows the correct label.",
        "The sentiment toward Lydia is given as negative.",
        "This is consistent with the established sentiment.",
        "This supports the given negative label.",
        "It is consistent with the provided negative sentiment.",
        "The smile aligns with the established positive sentiment.",
        "This matches the negative sentiment label.",
        "The sentiment given is negative.",
        "These words are what justifying the negative label takes.",
        "We were instructed to conclude that it is neutral.",
        "I've been told it is negative.",
        "Having been told so, it is negative.",
        "The model was told the label.",
        "The prompt asks, and according to the prompt it is negative.",
        "As established, the overall sentiment is negative.",
        "The sentiment, already established as negative, is confirmed by the image.",
        "The mood of the post has been determined to be negative.",
        "Therefore the correct sentiment is negative.",
        "This is consistent with the sentiment given for this post.",
        "It aligns with the predefined sentiment.",
        "The post is annotated as negative, which the image supports.",
        "It is in keeping with the gold standard.",
        "Since we already know that the post is negative, the smile is ironic.",
        "Since we know the sentiment is negative, the text must be read as irony.",
        "Knowing that the post is negative, the image is ironic.",
        "It is known that the sentiment is positive.",
        "The sentiment we were given is positive, and so is the sentiment that was provided.",
        "As instructed, the prediction is negative.",
        "Per the instructions, the prediction is positive.",
        "The final sentiment must be negative as specified.",
        "This fits the pre-labeled sentiment.",
        "It is consistent with the overall positive sentiment label.",
    ],
)
def test_leaks_are_found(sentence):
    assert find_leak(Reasoning(final_conclusion=sentence), "A post about Lydia") is not None


@pytest.mark.parametrize(
    "sentence",
    [
        "Given the smiling faces, the sentiment is positive.",
        "The provided text is factual and the image shows a stadium.",
        "The true sentiment behind the words is ironic.",
        "The record label is named in the caption.",
        "She was told to wait in line, which annoys her.",
        "We know the place is closed, as the sign says, and as instructed by it people leave.",
        "According to the user, the food was great, as mentioned by the user twice.",
        "The man with the label on the shirt smiles.",
        "The crowd gives the target aspect a positive light.",
        "As established above, the text is hostile, so the sentiment is determined to be negative.",
        "We know that the crowd is happy.",
    ],
)
def test_ordinary_reasoning_passes(sentence):
    assert find_leak(Reasoning(text_analysis=sentence), "A post") is None


def test_a_quotation_of_the_post_is_no_leak():
    reasoning = Reasoning(text_analysis='The writer says "I was told to wait", which sounds annoyed.')
    assert find_leak(reasoning, "I was  told to wait for hours") is None
    assert find_leak(reasoning, "Another post") == "was told"


def test_hardly_any_real_reasoning_is_refused(shared_data):
    path = shared_data / "twitter2015" / "teacher_reasoning_qwen2.5-vl-72b.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    refused = [leak for row in rows if (leak := find_leak(parse(row["cot"]), row["text"]))]
    assert len(refused) <= 8, refused
