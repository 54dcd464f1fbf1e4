"""The whole way against a real server on loopback: stages, retries, faults, ledger, secrets."""

import asyncio
import base64
import io
import json
import logging
import random
import re
import time
import traceback

import pytest
from PIL import Image

from mulcot_rd.reasoning import write
from mulcot_rd.schema import Reasoning
from mulcot_rd.teacher import DryRunFinished, TeacherError, TeacherParameters, annotate

KEY = "sk-very-secret-0123456789"
TOLD = re.compile(r"has been established: it is (\w+)")


def text_for(label, **changed):
    sections = {
        "text_analysis": "The words sound like this.",
        "image_analysis": "The picture is bright.",
        "conflict_resolution": "There is no conflict.",
        "final_conclusion": f"The post is {label}.",
    }
    return write(Reasoning(**{**sections, **changed}, prediction=label))


def prompt(body):
    return body["messages"][0]["content"][1]["text"]


def told(body):
    match = TOLD.search(prompt(body))
    return match.group(1) if match else None


@pytest.fixture
def parameters(server):
    def make(**changed):
        settings = {"provider": "openai", "base_url": server.url, "model": "fake", "backoff_s": 0.01, "timeout_s": 5.0}
        return TeacherParameters(**{**settings, **changed})

    return make


def test_right_answers_are_stage_one_and_wrong_ones_are_explained_with_the_label(
    server, parameters, make_post, tmp_path
):
    server.reply = lambda body: text_for(told(body) or "positive")
    posts = [make_post(1, "positive"), make_post(2, "negative"), make_post(3, "neutral")]
    result = annotate(posts, [], parameters(), tmp_path / "ledger.jsonl")
    assert [(r.id, r.stage, r.prediction.value) for r in result.reasoning] == [
        ("train-1", 1, "positive"),
        ("train-2", 2, "negative"),
        ("train-3", 2, "neutral"),
    ]
    assert len(server.requests) == 5
    assert {r.model for r in result.reasoning} == {"fake-model-2026"}
    assert result.summary["stage_one_accuracy"] == pytest.approx(1 / 3)
    assert (result.summary["stage_1"], result.summary["stage_2"], result.summary["quarantined"]) == (1, 2, 0)
    assert result.summary["tokens"] == {"prompt": 50, "completion": 25}


def test_the_image_goes_along_as_a_jpeg_of_the_configured_size(server, parameters, make_post, tmp_path):
    annotate([make_post()], [], parameters(image_size=56), tmp_path / "ledger.jsonl")
    uri = server.requests[0]["messages"][0]["content"][0]["image_url"]["url"]
    kind, data = uri.split(",", 1)
    sent = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == "data:image/jpeg;base64"
    assert (sent.format, sent.size) == ("JPEG", (56, 56))


def test_unusable_answers_are_asked_again_with_what_was_wrong(server, parameters, make_post, tmp_path):
    answers = ["I cannot help with that.", '"Text_analysis": "a"\n"Prediction": mixed', text_for("positive")]
    server.reply = lambda body: answers.pop(0)
    result = annotate([make_post()], [], parameters(), tmp_path / "ledger.jsonl")
    assert (result.reasoning[0].stage, result.reasoning[0].attempts) == (1, 3)
    assert result.summary["attempts"]["stage_1"] == {"3": 1}
    last = server.requests[-1]["messages"]
    assert [turn["role"] for turn in last] == ["user", "assistant", "user", "assistant", "user"]
    assert last[1]["content"] == "I cannot help with that."
    assert 'section "Image_analysis" is missing' in last[-1]["content"]
    assert result.reasoning[0].usage.prompt_tokens == 30


def test_a_cut_answer_is_told_to_be_shorter(server, parameters, make_post, tmp_path):
    answers = [{"content": '"Text_analysis": "a long', "finish_reason": "length"}, text_for("positive")]
    server.reply = lambda body: answers.pop(0)
    annotate([make_post()], [], parameters(), tmp_path / "ledger.jsonl")
    assert "cut off at the length limit" in server.requests[1]["messages"][-1]["content"]


def test_markdown_answers_are_usable(server, parameters, make_post, tmp_path):
    server.reply = lambda body: (
        "### Text_analysis\nGood words.\n\n### Image_analysis\nBright.\n\n### Conflict_resolution\nNone.\n\n"
        "### Final_conclusion\nFine.\n\n**Prediction:** Positive\n"
    )
    result = annotate([make_post()], [], parameters(), tmp_path / "ledger.jsonl")
    assert result.reasoning[0].text_analysis == "Good words."
    assert len(server.requests) == 1


def test_stage_two_refuses_another_label_and_leaks(server, parameters, make_post, tmp_path):
    answers = [
        text_for("positive"),
        text_for("positive"),
        text_for("negative", final_conclusion="In line with the given label, the post is negative."),
        text_for("negative"),
    ]
    server.reply = lambda body: answers.pop(0)
    result = annotate([make_post(1, "negative")], [], parameters(), tmp_path / "ledger.jsonl")
    record = result.reasoning[0]
    assert (record.stage, record.attempts, record.prediction.value) == (2, 3, "negative")
    complaints = server.requests[-1]["messages"]
    assert '"Prediction" must be negative' in complaints[2]["content"]
    assert "given label" in complaints[4]["content"]


@pytest.mark.parametrize("max_retries", [0, 3])
def test_a_hopeless_post_is_quarantined_with_its_raw_answers(server, parameters, make_post, tmp_path, max_retries):
    server.reply = lambda body: "no" if "number 2" in prompt(body) else text_for("positive")
    posts = [make_post(1), make_post(2), make_post(3)]
    result = annotate(posts, [], parameters(max_retries=max_retries), tmp_path / "ledger.jsonl")
    assert [record.id for record in result.reasoning] == ["train-1", "train-3"]
    (quarantined,) = result.quarantine
    assert quarantined.id == "train-2"
    assert [(raw.stage, raw.attempt) for raw in quarantined.answers] == [
        (stage, attempt) for stage in (1, 2) for attempt in range(1, max_retries + 2)
    ]
    assert all(raw.text == "no" for raw in quarantined.answers)
    assert len(server.requests) == 2 + 2 * (1 + max_retries)
    assert result.summary["quarantined"] == 1


def test_references_are_never_told_the_label_and_unusable_ones_are_missing(server, parameters, make_post, tmp_path):
    server.reply = lambda body: "no" if "number 3" in prompt(body) else text_for("positive")
    test_posts = [
        make_post(2, "negative", id="test-2", split="test"),
        make_post(3, "positive", id="test-3", split="test"),
    ]
    result = annotate([make_post(1)], test_posts, parameters(), tmp_path / "ledger.jsonl")
    assert [(r.id, r.stage, r.prediction.value) for r in result.references] == [("test-2", 1, "positive")]
    assert not any(TOLD.search(text) for text in server.prompts)
    assert result.summary["references"] == {
        "written": 1,
        "missing": 1,
        "accuracy": 0.0,
        "attempts": {"1": 1, "unusable": 1},
    }


@pytest.mark.parametrize(
    "fault",
    [
        (429, {"Retry-After": "0"}, "{}"),
        (429, {}, "{}"),
        (500, {}, "broken"),
        (503, {}, "{}"),
        (200, {}, '{"id": "x", "choices": [{"ind'),
        (200, {}, '{"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": []}'),
        (200, {"Content-Type": "text/html"}, "<html>busy</html>"),
        "drop",
        "hang",
    ],
    ids=["429-after", "429", "500", "503", "torn-json", "no-choices", "html", "drop", "hang"],
)
def test_transport_faults_cost_one_more_request_each(server, parameters, make_post, tmp_path, fault):
    server.faults = [fault, fault]
    result = annotate([make_post()], [], parameters(timeout_s=0.4), tmp_path / "ledger.jsonl")
    assert result.reasoning[0].attempts == 1
    assert len(server.requests) == 3


def test_retry_after_is_honoured(server, parameters, make_post, tmp_path):
    server.faults = [(429, {"Retry-After": "1"}, "{}")]
    annotate([make_post()], [], parameters(), tmp_path / "ledger.jsonl")
    assert server.times[1] - server.times[0] >= 1.0


def test_a_request_that_never_gets_through_is_quarantined_and_asked_again_next_time(
    server, parameters, make_post, tmp_path
):
    settings = parameters(max_request_retries=1)
    annotate([make_post(1)], [], settings, tmp_path / "l")
    server.faults = [(500, {}, "{}")] * 2
    posts = [make_post(1), make_post(2)]
    first = annotate(posts, [], settings, tmp_path / "l")
    assert [(q.id, q.reason) for q in first.quarantine] == [("train-2", "the server said 500, 2 time(s)")]
    asked = len(server.requests)
    second = annotate(posts, [], settings, tmp_path / "l")
    assert [r.id for r in second.reasoning] == ["train-1", "train-2"]
    assert len(server.requests) == asked + 1


@pytest.mark.parametrize(
    ("status", "cure"),
    [(401, "credentials.yml"), (403, "credentials.yml"), (404, "teacher.model")],
)
def test_errors_that_cannot_heal_stop_at_once_with_the_cure(server, parameters, make_post, tmp_path, status, cure):
    server.faults = [(status, {}, json.dumps({"error": {"message": f"no: {KEY}"}}))] * 40
    posts = [make_post(number) for number in range(10)]
    with pytest.raises(TeacherError, match=cure) as caught:
        annotate(posts, [], parameters(max_concurrency=1), tmp_path / "ledger.jsonl", KEY)
    assert len(server.requests) <= 2
    assert "\n" not in str(caught.value)
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_a_refused_request_is_not_repeated_and_the_others_go_on(server, parameters, make_post, tmp_path):
    refusal = json.dumps({"error": {"message": "content management policy", "code": "content_filter"}})
    ledger = tmp_path / "ledger.jsonl"
    # With nobody else in the way, the refusals meet the first post's two stages.
    annotate([make_post(2)], [], parameters(max_concurrency=1), ledger)
    server.faults = [(400, {}, refusal)] * 2
    result = annotate([make_post(1), make_post(2)], [], parameters(max_concurrency=1), ledger)
    assert [record.id for record in result.reasoning] == ["train-2"]
    (quarantined,) = result.quarantine
    assert quarantined.reason == "the server refused the request with 400 (content management policy)"
    assert len(server.requests) == 3


def test_a_post_that_stage_one_refuses_comes_to_stage_two(server, parameters, make_post, tmp_path):
    server.faults = [(400, {}, json.dumps({"error": {"message": "filtered", "code": "content_filter"}}))]
    result = annotate([make_post()], [], parameters(max_concurrency=1), tmp_path / "ledger.jsonl")
    assert [(record.stage, record.attempts) for record in result.reasoning] == [(2, 1)]
    assert not result.quarantine
    assert len(server.requests) == 2


def test_a_spent_quota_is_not_waited_for(server, parameters, make_post, tmp_path):
    server.faults = [(429, {}, json.dumps({"error": {"message": "pay", "code": "insufficient_quota"}}))]
    with pytest.raises(TeacherError, match="quota is spent"):
        annotate([make_post()], [], parameters(), tmp_path / "ledger.jsonl")
    assert len(server.requests) == 1


def test_a_server_that_is_gone_ends_the_run_soon(parameters, make_post, tmp_path):
    posts = [make_post(number) for number in range(200)]
    nowhere = parameters(base_url="http://127.0.0.1:9/v1", max_request_retries=0)
    with pytest.raises(TeacherError, match="20 requests in a row"):
        annotate(posts, [], nowhere, tmp_path / "ledger.jsonl")


def test_a_finished_annotation_asks_nothing_and_gives_the_same(server, parameters, make_post, tmp_path):
    server.reply = lambda body: text_for(told(body) or "positive")
    posts = [make_post(number, label) for number, label in enumerate(["positive", "negative", "neutral"] * 4)]
    first = annotate(posts, posts[:2], parameters(), tmp_path / "ledger.jsonl")
    asked = len(server.requests)
    second = annotate(posts, posts[:2], parameters(max_concurrency=1, timeout_s=9), tmp_path / "ledger.jsonl")
    assert len(server.requests) == asked
    assert second == first
    third = annotate(posts, posts[:2], parameters(temperature=0.5), tmp_path / "ledger.jsonl")
    assert len(server.requests) == 2 * asked
    assert third.reasoning == first.reasoning


def test_equal_posts_are_asked_for_once(server, parameters, make_post, tmp_path):
    posts = [make_post(1, id=f"train-{number}") for number in range(5)]
    result = annotate(posts, [], parameters(), tmp_path / "ledger.jsonl")
    assert [record.id for record in result.reasoning] == [post.id for post in posts]
    assert len(server.requests) == 1


def test_rows_keep_the_order_of_posts_and_requests_their_bound(server, parameters, make_post, tmp_path):
    def reply(body):
        time.sleep(random.random() / 30)
        return text_for(told(body) or "positive")

    server.reply = reply
    posts = [make_post(number, ["positive", "negative"][number % 2]) for number in range(40)]
    result = annotate(posts, [], parameters(max_concurrency=4), tmp_path / "ledger.jsonl")
    assert [record.id for record in result.reasoning] == [post.id for post in posts]
    assert 2 <= server.most_in_flight <= 4


def test_the_key_is_sent_and_appears_nowhere_else(server, parameters, make_post, tmp_path, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    server.faults = [(500, {}, KEY), (400, {}, json.dumps({"error": {"message": f"bad key {KEY}"}}))]
    posts = [make_post(1), make_post(2)]
    result = annotate(posts, [], parameters(max_concurrency=1), tmp_path / "ledger.jsonl", KEY)
    assert set(server.keys) == {f"Bearer {KEY}"}
    printed = capsys.readouterr()
    assert KEY not in caplog.text + printed.out + printed.err + repr(result)
    assert KEY not in (tmp_path / "ledger.jsonl").read_text()


def test_the_real_api_without_a_key_says_what_to_do(make_post, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(TeacherError, match="set OPENAI_API_KEY"):
        annotate([make_post()], [], TeacherParameters(provider="openai"), tmp_path / "ledger.jsonl")


def test_a_dry_run_asks_nothing_and_counts_what_is_left(server, parameters, make_post, tmp_path, caplog):
    caplog.set_level(logging.INFO, "mulcot_rd")
    posts = [make_post(number) for number in range(3)]
    annotate(posts[:1], [], parameters(), tmp_path / "ledger.jsonl")
    with pytest.raises(DryRunFinished):
        annotate(posts, posts[:1], parameters(dry_run=True), tmp_path / "ledger.jsonl")
    assert len(server.requests) == 1
    # Two posts are left: 2 first answers at least, at most 8 each; what the first post needed is in the ledger.
    assert "4 posts for fake, 2 of them need no request" in caplog.text
    assert re.search(r"least +2 .*\n  expected .*\n  most +16 ", caplog.text)


def test_annotating_inside_a_running_loop_works(server, parameters, make_post, tmp_path):
    async def notebook():
        return annotate([make_post()], [], parameters(), tmp_path / "ledger.jsonl")

    assert len(asyncio.run(notebook()).reasoning) == 1
