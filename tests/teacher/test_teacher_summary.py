"""Summary and report of an annotation: a function of what was answered, the same after a resumed run."""

import asyncio
import logging

import pytest
from tests.teacher.conftest import reasoning_text

from mulcot_rd.metrics.labels import stage_one_scores
from mulcot_rd.schema import Sentiment, Usage
from mulcot_rd.teacher import TeacherParameters, annotate
from mulcot_rd.teacher.controller import annotate_post
from mulcot_rd.teacher.errors import RequestFailedError
from mulcot_rd.teacher.prices import ModelPrice
from mulcot_rd.teacher.questions import Answer
from mulcot_rd.teacher.summary import log_summary, stage_one_labels, summarise, teacher_report


class Scripted:
    """Answers by post, stage and attempt; ``None`` is a request that fails for good, the label the usual answer."""

    def __init__(self, script=None, cost=0.001):
        self.script = script or {}
        self.cost = cost

    async def answer(self, request):
        texts = self.script.get((request.post.id, request.stage), [])
        text = texts[request.attempt - 1] if request.attempt <= len(texts) else reasoning_text(request.post.label)
        if text is None:
            raise RequestFailedError("the server refused the request with 400 (too long)")
        return Answer(
            text=text,
            model="m",
            usage=Usage(prompt_tokens=100, completion_tokens=20),
            cost_usd=self.cost,
        )


def outcomes(posts, provider, *, reference=False):
    role = "reference" if reference else "reasoning"

    async def every():
        return [await annotate_post(post, role, provider.answer, 3) for post in posts]

    return asyncio.run(every())


@pytest.fixture
def annotated(make_post):
    """Right at once; right at the second answer; wrong, then explained; unusable throughout; failed for good."""
    posts = [make_post(number, "positive") for number in range(1, 6)]
    script = {
        ("train-2", 1): ["no"],
        ("train-3", 1): [reasoning_text("negative")],
        ("train-4", 1): ["no"] * 4,
        ("train-4", 2): ["no"] * 4,
        ("train-5", 1): [None],
        ("test-7", 1): ["no"] * 4,
    }
    references = [make_post(number, "neutral", id=f"test-{number}", split="test") for number in (6, 7)]
    provider = Scripted(script)
    return outcomes(posts, provider), outcomes(references, provider, reference=True)


def test_stages_retries_cost_latency_and_quarantine(annotated):
    summary = summarise(*annotated, "scripted", 3)
    assert (summary["posts"], summary["stage_1"], summary["stage_2"], summary["quarantined"]) == (5, 2, 1, 2)
    assert summary["stage_one_accuracy"] == 0.4
    assert summary["attempts"] == {"stage_1": {"1": 2, "2": 1, "unusable": 2}, "stage_2": {"1": 1, "unusable": 1}}
    assert summary["valid_within"]["stage_1"] == {"1": 0.4, "2": 0.6, "3": 0.6, "4": 0.6}
    assert summary["valid_within"]["stage_2"] == {"1": 0.5, "2": 0.5, "3": 0.5, "4": 0.5}
    assert summary["valid_within"]["references"] == {"1": 0.5, "2": 0.5, "3": 0.5, "4": 0.5}
    # Answers: 1 + 2 + 1 + 4 + 0 in stage one, 1 + 4 in stage two, 1 + 4 on the test split.
    assert summary["tokens"] == {"prompt": 1800, "completion": 360}
    assert summary["tokens_by_stage"]["stage_2"] == {"prompt": 500, "completion": 100}
    assert summary["cost_usd"] == {
        "total": 0.018,
        "per_1000_posts": pytest.approx(18 / 7),
        "stage_1": 0.008,
        "stage_2": 0.005,
        "references": 0.005,
        "unpriced_answers": 0,
    }
    assert summary["quarantine"]["first_ids"] == ["train-4", "train-5"]
    assert "the server refused the request with 400 (too long)" in summary["quarantine"]["reasons"]
    assert sum(summary["quarantine"]["reasons"].values()) == 2
    assert summary["references"]["missing"] == 1


def test_stage_one_is_scored_with_wrong_and_unusable_answers(annotated):
    trained, referred = annotated
    predictions, labels = stage_one_labels(trained)
    assert predictions == [Sentiment.POSITIVE, Sentiment.POSITIVE, Sentiment.NEGATIVE, None, None]
    scores = stage_one_scores(predictions, labels, seed=1)
    assert scores["accuracy"] == summarise(trained, referred, "scripted", 3)["stage_one_accuracy"]
    assert scores["confusion"]["positive"] == {"negative": 1, "neutral": 0, "positive": 2, "unreadable": 2}


def test_an_answer_without_a_price_is_counted_as_such(make_post):
    trained = outcomes([make_post(1)], Scripted(cost=None))
    cost = summarise(trained, [], "scripted", 3)["cost_usd"]
    assert (cost["total"], cost["per_1000_posts"], cost["unpriced_answers"]) == (None, None, 1)


def test_rules_ask_no_server_and_cost_nothing(make_post, tmp_path, caplog):
    caplog.set_level(logging.INFO, "mulcot_rd")
    annotation = annotate([make_post(1)], [], TeacherParameters(), tmp_path / "none.jsonl")
    assert "no server was asked" in caplog.text
    assert "None: no server was asked." in teacher_report(annotation.summary, "a run")


def test_the_log_says_stages_cost_and_quarantine_in_a_line_each(annotated, caplog):
    caplog.set_level(logging.INFO, "mulcot_rd")
    log_summary(summarise(*annotated, "scripted", 3))
    stages, cost, quarantine = (record.getMessage() for record in caplog.records)
    assert "stage one kept 2 of 5 training post(s) (40.0%), stage two 1; 1 reference(s) written, 1 missing" in stages
    assert "0.0180 USD; 1,800 prompt and 360 answer tokens" in cost
    assert "2 training post(s) in quarantine, without a reasoning (train-4, train-5)" in quarantine


def test_the_report_holds_all_statistics_in_well_formed_tables(annotated):
    trained, referred = annotated
    summary = summarise(trained, referred, "scripted", 3)
    summary["stage_one"] = {
        split: stage_one_scores(*verdicts, seed=1)
        for split, verdicts in {"train": stage_one_labels(trained), "test": stage_one_labels(referred)}.items()
    }
    report = teacher_report(summary, "sample, arch4-tiny-full")
    assert report.startswith("# Teacher annotation: sample, arch4-tiny-full\n")
    assert "| train | 5 | 40.0 |" in report
    assert "| positive | 1 | 0 | 2 | 2 |" in report
    assert "about 79% within two" in report
    assert "| together | 1,800 | 360 | 0.0180 USD |" in report
    assert "2 training post(s) in quarantine, without a reasoning (train-4, train-5), most often because" in report
    assert "13 of 18 answers were unusable" in report
    tables = [block.splitlines() for block in report.split("\n\n") if block.startswith("|")]
    assert len(tables) == 8
    for table in tables:
        assert len({line.count(" | ") for line in table}) == 1, table


def test_a_resumed_run_has_the_same_summary(server, make_post, tmp_path):
    server.reply = lambda body: reasoning_text("positive")
    prices = {"fake": ModelPrice(input_usd=1.0, output_usd=4.0)}
    settings = TeacherParameters(provider="openai", base_url=server.url, model="fake", prices=prices, backoff_s=0.01)
    posts = [make_post(number, label) for number, label in enumerate(("positive", "negative", "positive"))]
    references = [make_post(9, id="test-9", split="test")]
    annotate(posts[:1], [], settings, tmp_path / "ledger.jsonl")
    first = annotate(posts, references, settings, tmp_path / "ledger.jsonl")
    asked = len(server.requests)
    again = annotate(posts, references, settings, tmp_path / "ledger.jsonl")
    assert len(server.requests) == asked
    assert (again.summary, again.stage_one) == (first.summary, first.stage_one)
    assert first.summary["cost_usd"]["total"] > 0
