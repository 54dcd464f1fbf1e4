"""The offline annotator: deterministic, cites what is there, obeys its rules and the told label."""

import re
import time
from itertools import product

import pytest
from PIL import Image
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from mulcot_rd.demo.annotator import decide, explain_post, justify
from mulcot_rd.demo.image_evidence import measure_image
from mulcot_rd.demo.phrases import CONCLUSION, CONFLICT, DECIDED_BY, Weighing
from mulcot_rd.demo.text_evidence import _Vader, read_text
from mulcot_rd.reasoning import parse, write
from mulcot_rd.schema import Post, Sentiment
from mulcot_rd.teacher import TeacherParameters, annotate
from mulcot_rd.teacher.leaks import find_leak

COLOURS = {"positive": (255, 200, 120), "neutral": (130, 130, 130), "negative": (40, 42, 44)}
TEXTS = {
    "positive": "What a great day with Lydia , I love it",
    "neutral": "Lydia arrives at the station on Monday",
    "negative": "Lydia was horrible and the worst of all",
}


@pytest.fixture
def post_of(tmp_path):
    def make(text, image="neutral", label="neutral", aspect="Lydia", number=1):
        path = tmp_path / f"{image}.png"
        Image.new("RGB", (20, 20), COLOURS[image]).save(path)
        return Post(id=f"p{number}", split="train", text=text, aspect=aspect, image=str(path), label=label)

    return make


@pytest.mark.parametrize("lean", list(COLOURS))
def test_images_lean_by_their_measured_facts(post_of, lean):
    facts = measure_image(post_of("x", lean).image)
    assert facts.lean.value == lean
    assert facts.contrast == pytest.approx(0, abs=1e-6)


def test_image_facts_of_a_known_colour(post_of):
    facts = measure_image(post_of("x", "positive").image)
    assert facts.warmth == pytest.approx((255 - 120) / 255)
    assert facts.saturation == pytest.approx((255 - 120) / 255, abs=0.01)
    assert facts.look == "bright, with strong warm colours and low contrast"


@pytest.mark.parametrize(
    ("text", "image", "verdict"),
    [
        ("positive", "positive", "positive"),
        ("positive", "neutral", "positive"),
        ("neutral", "negative", "negative"),
        ("negative", "positive", "negative"),
        ("neutral", "neutral", "neutral"),
    ],
)
def test_the_rules_of_stage_one(post_of, text, image, verdict):
    assert explain_post(post_of(TEXTS[text], image)).prediction.value == verdict


def test_irony_lets_the_image_decide_a_conflict(post_of):
    post = post_of("yeah right , what a great and wonderful day", "negative")
    label, weighing = decide(read_text(post), measure_image(post.image))
    assert (label.value, weighing) == ("negative", Weighing.IRONY)
    assert "'yeah right'" in explain_post(post).conflict_resolution


def test_the_words_of_the_aspect_are_no_evidence(post_of):
    named = read_text(post_of("Great Love Festival opens at nine", aspect="Great Love Festival"))
    assert named.lean is Sentiment.NEUTRAL
    assert named.positive == ()
    assert read_text(post_of("Great Love Festival opens at nine", aspect=None)).lean is Sentiment.POSITIVE


def test_a_negated_word_is_cited_with_its_negation(post_of):
    evidence = read_text(post_of("This was not good at all and really terrible"))
    assert "not good" in evidence.negative
    assert evidence.positive == ()


def test_told_label_is_respected_and_never_given_away(post_of):
    for number, (text, image, label) in enumerate(product(TEXTS, COLOURS, Sentiment)):
        post = post_of(TEXTS[text], image, number=number)
        answer = explain_post(post, label)
        assert answer.prediction is label
        assert answer.problems == []
        assert find_leak(answer, "") is None


def test_every_phrase_can_be_said_without_a_leak():
    fields = {"label": "positive", "mood": "happy", "irony": "lol", "toward": " toward Lydia"}
    for phrases in (*CONFLICT.values(), *CONCLUSION.values()):
        assert len(phrases) == len(set(phrases))
        assert all("{" not in phrase.format(**fields) for phrase in phrases)
    assert set(DECIDED_BY) == set(Weighing)


def test_justification_always_leads_to_the_label():
    neutral = Sentiment.NEUTRAL
    assert justify(neutral, Sentiment.POSITIVE, neutral, False) is Weighing.FACTS_WIN
    assert justify(Sentiment.POSITIVE, neutral, neutral, False) is Weighing.IMPLIED
    assert justify(Sentiment.NEGATIVE, Sentiment.POSITIVE, Sentiment.NEGATIVE, True) is Weighing.IRONY


def test_same_post_same_text_other_posts_other_phrases(post_of):
    texts = {write(explain_post(post_of(TEXTS["positive"], "positive", number=number))) for number in range(30)}
    again = {write(explain_post(post_of(TEXTS["positive"], "positive", number=number))) for number in range(30)}
    assert texts == again
    assert len(texts) > 10


def test_hostile_aspects_and_texts_do_not_steer_it(post_of):
    post = post_of('great "Prediction": "negative"\n{label}', aspect='"Prediction": "negative" {words}')
    answer = explain_post(post)
    assert parse(write(answer)) == answer


def real_posts(shared_data, limit):
    folder = shared_data / "twitter2015"
    for row in (folder / "train.tsv").read_text(encoding="utf-8").splitlines()[1 : limit + 1]:
        number, label, image, text, aspect = row.split("\t")
        yield Post(
            id=f"train-{number}",
            split="train",
            text=text.replace("$T$", aspect),
            aspect=aspect,
            image=str(folder / "images" / image),
            label=["negative", "neutral", "positive"][int(label)],
        )


def test_on_real_tweets_citations_occur_and_both_stages_are_used(shared_data, tmp_path):
    posts = list(real_posts(shared_data, 300))
    result = annotate(posts, [], TeacherParameters(), tmp_path / "ledger.jsonl")
    assert [record.id for record in result.reasoning] == [post.id for post in posts]
    assert 0.45 < result.summary["stage_one_accuracy"] < 0.75
    assert result.summary["stage_2"] > 50
    assert all(record.prediction == record.label for record in result.reasoning)
    cited = 0
    for post, record in zip(posts, result.reasoning, strict=True):
        evidence = read_text(post)
        for word in (*evidence.positive, *evidence.negative):
            assert word in post.text
            cited += f"'{word}'" in record.text_analysis
        for word in re.findall(r"'([^']+)'", record.text_analysis.replace(post.aspect, "")):
            assert word in post.text
    assert cited > 50
    assert not (tmp_path / "ledger.jsonl").exists()


@pytest.mark.parametrize(
    "text",
    [
        "never so good and not at all bad, the least bad of all",
        "the bomb \U0001f600 yeah right, kind of cut the mustard, but it was hand to mouth",
        "no doubt it was without doubt a very GREAT and not very sad day \U0001f602\U0001f602",
        "good",
        "not good",
        "kiss of death it was and bad ass to die for on the upper hand",
    ],
)
def test_linear_vader_scores_as_vader_does(text):
    assert _Vader().polarity_scores(text) == SentimentIntensityAnalyzer().polarity_scores(text)


@pytest.mark.parametrize(
    "piece", ["\U0001f600", "\U0001f600 ", "good \U0001f602 ", "never so good but bad ", "a!", "haha ", "not  n't "]
)
def test_the_time_for_a_long_post_grows_no_faster_than_its_length(post_of, piece):
    def seconds(characters):
        post = post_of(piece * (characters // len(piece)))
        tries = []
        for _ in range(3):
            started = time.process_time()
            read_text(post)
            tries.append(time.process_time() - started)
        return min(tries)

    seconds(1_000)
    # Ten times the length takes ten times the time, and a hundred times where each word looks at all others.
    assert seconds(20_000) < 40 * max(seconds(2_000), 0.02)
