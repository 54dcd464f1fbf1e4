import json
import socket

import numpy as np
import pytest

from mulcot_rd.metrics import distinct, reasoning_scores, reasoning_scores_by_pair
from mulcot_rd.reasoning import parse, write

CAT = "The cat sat on the mat and looked at the bright morning sky."
DOG = "A dog ran through the park, chasing a red ball with joy."
NAMES = ["sim", "meteor", "bleu", "rouge_l", "dist_1", "dist_2"]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a metric tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_a_text_equal_to_its_reference_scores_one():
    scores = reasoning_scores([CAT, DOG], [CAT, DOG])
    assert list(scores) == NAMES
    assert [scores["sim"], scores["bleu"], scores["rouge_l"]] == pytest.approx([1, 1, 1], abs=1e-6)
    assert scores["meteor"] > 0.99
    assert all(type(value) is float and 0 <= value <= 1 for value in scores.values())


def test_hand_computed_values():
    pairs = reasoning_scores_by_pair(["my cat sat on the mat"], ["my cat sat on a mat"])
    # Longest common subsequence of 5 in 6 and 6 words.
    assert pairs["rouge_l"] == pytest.approx([5 / 6])
    # Precisions 5/6, 3/5, 2/4, 1/3 and no brevity penalty.
    assert pairs["bleu"] == pytest.approx([(5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25])
    # 5 matches in 2 chunks: F-mean 5/6, penalty 0.5 (2/5)^3.
    assert pairs["meteor"] == pytest.approx([5 / 6 * (1 - 0.5 * (2 / 5) ** 3)])
    assert (pairs["dist_1"], pairs["dist_2"]) == ([1], [1])


def test_bleu_is_not_smoothed():
    assert reasoning_scores(["the cat sat down"], ["the cat sat here"])["bleu"] == 0


def test_meteor_knows_stems_and_synonyms_and_ignores_case():
    reference = "the auto was running"
    meteor = reasoning_scores_by_pair(["THE CAR WAS RUNS", "the bread was green", reference], [reference] * 3)["meteor"]
    assert meteor[0] == pytest.approx(meteor[2])
    assert meteor[1] < 0.5 * meteor[0]


def test_sim_orders_texts_by_meaning():
    close, far = reasoning_scores_by_pair(
        ["A kitten rested on the rug under the dawn sky.", "Quarterly tax forms are due on Monday."], [CAT, CAT]
    )["sim"]
    assert close > 0.5 > far


@pytest.mark.parametrize("empty", ["", "  \n"])
def test_an_empty_text_scores_nothing_and_halves_the_mean(empty):
    assert reasoning_scores([empty], [CAT]) == dict.fromkeys(NAMES, 0.0)
    both = reasoning_scores([empty, CAT], [CAT, CAT])
    assert both == pytest.approx({name: value / 2 for name, value in reasoning_scores([CAT], [CAT]).items()}, abs=1e-6)


def test_odd_texts_do_not_raise():
    odd = ['"', "?!", "😀 👍🏽", "a", "the " * 2000, "\x00\x01 null", "日本語のテキスト"]
    pairs = reasoning_scores_by_pair(odd, [CAT] * len(odd))
    assert np.isfinite([pairs[name] for name in NAMES]).all()


def test_the_order_of_the_pairs_does_not_matter():
    generated, references = [CAT, DOG, "", "A cat."], [DOG, DOG, CAT, CAT]
    forward = reasoning_scores(generated, references)
    assert reasoning_scores(generated[::-1], references[::-1]) == pytest.approx(forward, abs=1e-6)


def test_the_mean_is_that_of_the_pairs():
    by_pair = reasoning_scores_by_pair([CAT, DOG, ""], [DOG, DOG, CAT])
    scores = reasoning_scores([CAT, DOG, ""], [DOG, DOG, CAT])
    assert scores == pytest.approx({name: float(np.mean(values)) for name, values in by_pair.items()})


@pytest.mark.parametrize(
    ("generated", "references", "message"),
    [
        ([], [], "no generated texts"),
        ([CAT], [CAT, DOG], "1 generated texts can't be compared with 2 references"),
        ([CAT, DOG], [CAT, " "], "reference 1 is empty"),
    ],
)
def test_faults_are_said_in_a_sentence(generated, references, message):
    with pytest.raises(ValueError, match=message):
        reasoning_scores(generated, references)


def test_distinct_counts_within_a_text():
    assert distinct(["a a a a"]) == pytest.approx({"dist_1": 1 / 4, "dist_2": 1 / 3})
    assert distinct(["a b", "A a", ""]) == pytest.approx({"dist_1": (1 + 1 / 2 + 0) / 3, "dist_2": (1 + 1 + 0) / 3})
    with pytest.raises(ValueError, match="no texts"):
        distinct([])


def test_dist_is_that_of_the_generated_texts_not_of_the_references():
    scores = reasoning_scores(["good good good good"], [CAT])
    assert scores["dist_1"] == 1 / 4
    assert distinct([CAT])["dist_1"] > 0.8


def test_real_teacher_texts(shared_data):
    file = shared_data / "twitter2015" / "teacher_reasoning_qwen2.5-vl-72b.jsonl"
    texts = [json.loads(line)["cot"] for line in file.read_text(encoding="utf-8").splitlines()]
    # Table 5 prints 42.4 to 42.7 and 72.9 for Twitter-15: the references' values, over the whole answers.
    assert distinct(texts) == pytest.approx({"dist_1": 0.425, "dist_2": 0.729}, abs=0.001)
    # As references they are written anew.
    references = [write(parse(text)) for text in texts]
    assert distinct(references) == pytest.approx({"dist_1": 0.427, "dist_2": 0.730}, abs=0.001)
    some = texts[:24]
    itself = reasoning_scores(some, some)
    assert [itself["sim"], itself["bleu"], itself["rouge_l"]] == pytest.approx([1, 1, 1], abs=1e-6)
    assert itself["meteor"] > 0.999
    shifted = reasoning_scores(some, [*some[1:], some[0]])
    assert all(0.1 < shifted[name] < 0.9 for name in ("sim", "meteor", "bleu", "rouge_l"))
    assert {name: shifted[name] for name in ("dist_1", "dist_2")} == pytest.approx(distinct(some))
