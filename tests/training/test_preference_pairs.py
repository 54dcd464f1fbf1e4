"""Preference pairs: what is checked, which pairs are made, and which never."""

import pytest

from mulcot_rd.preference.pairs import Candidate, make_pairs, pair_statistics
from mulcot_rd.preference.parameters import PairParameters
from mulcot_rd.preference.scoring import checks
from mulcot_rd.reasoning import write
from mulcot_rd.schema import Post, Reasoning, Sentiment

POST = Post(
    id="p", split="train", text="A sunny morning at Maple Lake", aspect="Maple Lake", image="p.png",
    label=Sentiment.POSITIVE,
)  # fmt: skip


def reasoning(quote="sunny morning", label=Sentiment.POSITIVE, more="", **changed):
    return Reasoning(
        **{
            "text_analysis": f"The words '{quote}' say it about Maple Lake.{more}",
            "image_analysis": "The image is bright.",
            "conflict_resolution": "There is no conflict.",
            "final_conclusion": f"The sentiment is {label.value}.",
            "prediction": label,
            **changed,
        }
    )


def candidate(made, post=POST, label_answer=Sentiment.POSITIVE):
    return Candidate(post.id, made, checks(made, post, label_answer))


def pairs(student=(), assistant=(), teacher=(), words=None, **parameters):
    usual = [len(write(reasoning()).split())] if words is None else words
    return make_pairs(list(student), list(assistant), list(teacher), usual, PairParameters(**parameters), seed=1)


def test_a_true_reasoning_passes_every_check():
    assert set(checks(reasoning(), POST, Sentiment.POSITIVE, Sentiment.POSITIVE).values()) == {1.0}


@pytest.mark.parametrize(
    ("made", "failed", "value"),
    [
        (reasoning(quote="rainy"), "quotes_grounded", 0.0),
        (reasoning(text_analysis="'sunny' and 'rainy' at Maple Lake"), "quotes_grounded", 0.5),
        (reasoning(text_analysis="Maple Lake is liked."), "quotes_grounded", 0.0),
        (reasoning(text_analysis="The words 'sunny morning' say it."), "aspect_named", 0.0),
        (reasoning(final_conclusion="It is negative."), "conclusion_entails", 0.0),
        (reasoning(conflict_resolution="The given label is positive."), "no_leak", 0.0),
    ],
)
def test_each_check_fails_on_its_own(made, failed, value):
    found = checks(made, POST, Sentiment.POSITIVE)
    assert {name: each for name, each in found.items() if each < 1} == {failed: value}


def test_a_wrong_label_fails_against_gold_and_against_the_other_prompt():
    found = checks(reasoning(label=Sentiment.NEGATIVE), POST, Sentiment.POSITIVE, "unclear")
    assert {name for name, each in found.items() if each < 1} == {"label_right", "prompts_agree", "judged_entails"}


def test_what_cannot_be_checked_has_no_entry():
    found = checks(reasoning(), POST.model_copy(update={"aspect": None}))
    assert not {"aspect_named", "prompts_agree", "judged_entails"} & found.keys()


def test_the_chosen_one_is_better_by_the_margin():
    true, false = candidate(reasoning()), candidate(reasoning(quote="rainy"))
    (pair,) = pairs([false, true])
    assert (pair.chosen, pair.rejected) == (true.reasoning, false.reasoning)
    assert (pair.kind, pair.margin) == ("sampled", 1.0)
    half = candidate(reasoning(text_analysis="'sunny' and 'rainy' at Maple Lake"))
    assert pairs([true, half], margin=0.5)
    assert not pairs([true, half], margin=0.6)


def test_no_pair_differs_in_length_alone():
    assert not pairs([candidate(reasoning()), candidate(reasoning(more=" It is so."))])


def test_of_equal_margins_the_more_equal_lengths_are_taken():
    true = candidate(reasoning())
    longer, same = candidate(reasoning(quote="rainy", more=" So it is.")), candidate(reasoning(quote="rainy day"))
    (pair,) = pairs([longer, true, same], pairs_per_post=1)
    assert pair.rejected == same.reasoning


def test_unusually_long_and_short_reasonings_take_no_part():
    true, false = candidate(reasoning()), candidate(reasoning(quote="rainy"))
    assert pairs([true, false], words=[true.words])
    assert not pairs([true, false], words=[4 * true.words])
    assert not pairs([true, false], words=[true.words // 4])


def test_a_wrong_or_leaking_reasoning_is_never_chosen():
    wrong = candidate(reasoning(label=Sentiment.NEGATIVE), label_answer=Sentiment.NEGATIVE)
    worse = candidate(reasoning(quote="rainy", label=Sentiment.NEGATIVE), label_answer=Sentiment.POSITIVE)
    leaking = candidate(reasoning(conflict_resolution="The given label is positive."))
    assert not pairs([wrong, worse])
    assert all(pair.chosen != leaking.reasoning for pair in pairs([leaking, wrong, worse]))


def test_a_rejected_text_is_used_once_and_a_post_gives_so_many_pairs():
    true, other = candidate(reasoning()), candidate(reasoning(image_analysis="All is bright."))
    false = [candidate(reasoning(quote=f"rainy day {number}")) for number in range(3)]
    found = pairs([true, other, *false], pairs_per_post=2)
    assert len(found) == len({pair.rejected for pair in found}) == 2
    assert len(pairs([true, other, false[0], false[0]], pairs_per_post=5)) == 1


def test_posts_are_never_mixed():
    elsewhere = POST.model_copy(update={"id": "q"})
    assert not pairs([candidate(reasoning()), candidate(reasoning(quote="rainy"), elsewhere)])


def test_assistant_and_teacher_give_kinds_of_their_own():
    """The assistant and the teacher are not asked the label prompt: that check stays aside."""
    true = candidate(reasoning())
    wrong = candidate(reasoning(label=Sentiment.NEUTRAL), label_answer=None)
    told = candidate(reasoning(image_analysis="A bright lake."), label_answer=None)
    found = pairs([true], [wrong], [(told, wrong)])
    assert [(pair.kind, pair.chosen, pair.margin) for pair in found] == [
        ("assistant", true.reasoning, 1.0),
        ("teacher", told.reasoning, 1.0),
    ]


def test_shuffled_pairs_are_turned_by_a_coin_that_the_seed_throws():
    texts = [POST.model_copy(update={"id": f"p{number}"}) for number in range(40)]
    student = [candidate(made, post) for post in texts for made in (reasoning(), reasoning(quote="rainy"))]
    plain, shuffled = pairs(student), pairs(student, shuffled=True)
    assert [pair.post_id for pair in plain] == [pair.post_id for pair in shuffled]
    turned = [pair for pair in shuffled if pair.margin < 0]
    assert 8 < len(turned) < 32
    assert all(pair.rejected == reasoning() and pair.rejected_checks["quotes_grounded"] == 1 for pair in turned)
    assert shuffled == pairs(student, shuffled=True)


def test_statistics_count_every_kind():
    found = pair_statistics(pairs([candidate(reasoning()), candidate(reasoning(quote="rainy"))]))
    assert found["assistant"] == found["teacher"] == {"pairs": 0, "posts": 0}
    sampled = found["sampled"]
    assert (sampled["pairs"], sampled["posts"], sampled["margin"]) == (1, 1, 1.0)
    assert sampled["better"]["quotes_grounded"] == 1
    assert sampled["better"]["label_right"] == 0
    assert sampled["chosen_words"] == sampled["rejected_words"] + 1
