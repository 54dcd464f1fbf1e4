"""What the client finds out about a server, what it keeps at a stop, and what it sends of a post."""

import json
import logging
import multiprocessing
import os
import signal
import time

import pytest
from fault_server import Script
from tests.teacher.conftest import reasoning_text

from mulcot_rd.prompts import teacher_prompt
from mulcot_rd.reasoning import json_schema
from mulcot_rd.teacher import TeacherError, TeacherParameters, annotate
from mulcot_rd.teacher.ledger import Ledger

NEWER_MODEL = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
)


@pytest.fixture
def parameters(server):
    def make(**changed):
        settings = {"provider": "openai", "base_url": server.url, "model": "fake", "backoff_s": 0.01, "timeout_s": 5.0}
        return TeacherParameters(**{**settings, **changed})

    return make


@pytest.fixture
def posts(make_post):
    return [make_post(number) for number in range(12)]


def formats(server):
    return [body.get("response_format", {}).get("type", "plain") for body in server.requests]


def error(message, **fields):
    return json.dumps({"error": {"message": message, **fields}})


@pytest.mark.parametrize(
    ("way", "refusals", "then"),
    [
        ("supported", [], "json_schema"),
        ("ignored", [], "json_schema"),
        ("refused", ["json_schema", "json_object"], "plain"),
        ("broken", ["json_schema", "json_object"], "plain"),
    ],
)
def test_the_answer_s_format_is_found_out_by_one_request_and_remembered(
    server, parameters, posts, tmp_path, way, refusals, then
):
    server.script = Script(response_format=way)
    server.reply = None
    annotate(posts[:6], [], parameters(), tmp_path / "l.jsonl")
    kinds = formats(server)
    assert kinds[: len(refusals)] == refusals
    assert set(kinds[len(refusals) :]) == {then}
    asked = len(kinds)
    annotate(posts, [], parameters(), tmp_path / "l.jsonl")
    assert set(formats(server)[asked:]) == {then}


def test_a_server_that_takes_a_schema_in_a_json_object_gets_that(server, parameters, posts, tmp_path):
    # As llama.cpp does.
    server.faults = [(500, {}, error("Input should be 'text' or 'json_object': response_format"))]
    annotate(posts, [], parameters(), tmp_path / "l.jsonl")
    assert formats(server) == ["json_schema"] + ["json_object"] * len(posts)
    assert server.requests[-1]["response_format"]["schema"] == json_schema()


def test_a_server_that_breaks_by_chance_is_not_misunderstood(server, parameters, posts, tmp_path):
    server.faults = [(500, {}, "Internal Server Error")]
    annotate(posts, [], parameters(), tmp_path / "l.jsonl")
    assert formats(server) == ["json_schema"] * (len(posts) + 1)


def test_a_first_request_that_is_refused_for_its_content_shows_nothing_of_the_format(
    server, parameters, posts, tmp_path
):
    server.faults = [
        (400, {}, error("This model's maximum context length is 64 tokens", code="context_length_exceeded"))
    ]
    result = annotate(posts, [], parameters(), tmp_path / "l.jsonl")
    assert [post.reason for post in result.quarantine] == [
        "the server refused the request with 400 (This model's maximum context length is 64 tokens)"
    ]
    assert formats(server) == ["json_schema"] * len(posts)


def test_without_structured_output_no_format_is_sent(server, parameters, posts, tmp_path):
    annotate(posts, [], parameters(structured_output="off"), tmp_path / "l.jsonl")
    assert formats(server) == ["plain"] * len(posts)


def test_structured_output_is_transport_and_repeats_nothing(server, parameters, posts, tmp_path):
    annotate(posts, [], parameters(structured_output="off"), tmp_path / "l.jsonl")
    asked = len(server.requests)
    annotate(posts, [], parameters(), tmp_path / "l.jsonl")
    assert len(server.requests) == asked


def test_a_model_that_wants_max_completion_tokens_is_asked_so_from_the_second_request_on(
    server, parameters, posts, tmp_path
):
    server.faults = [(400, {}, error(NEWER_MODEL, param="max_tokens", code="unsupported_parameter"))]
    annotate(posts, [], parameters(), tmp_path / "l.jsonl")
    assert len(server.requests) == len(posts) + 1
    assert all("max_completion_tokens" in body and "max_tokens" not in body for body in server.requests[1:])
    annotate(posts, [], parameters(temperature=1.0), tmp_path / "l.jsonl")
    assert "max_completion_tokens" in server.requests[-1]
    assert len(server.requests) == 2 * len(posts) + 1


def test_a_refusal_is_asked_again_with_what_was_wrong(server, parameters, make_post, tmp_path):
    said = [{"content": None, "refusal": "I'm sorry.", "finish_reason": "stop"}, reasoning_text("positive")]
    server.reply = lambda body: said.pop(0)
    result = annotate([make_post()], [], parameters(), tmp_path / "l.jsonl")
    assert result.reasoning[0].attempts == 2
    assert "it declines the task" in server.requests[1]["messages"][-1]["content"]
    assert "is missing" not in server.requests[1]["messages"][-1]["content"]


@pytest.mark.parametrize(("send", "says"), [("text", "no image to draw on"), ("caption", '"A dog \\"smiles\\"."')])
def test_a_text_only_teacher_gets_words_in_place_of_the_image(server, parameters, make_post, tmp_path, send, says):
    post = make_post(caption='A dog "smiles".')
    annotate([post], [], parameters(send=send), tmp_path / "l.jsonl")
    content = server.requests[0]["messages"][0]["content"]
    assert content == teacher_prompt(post, None, send)
    assert says in content


def test_captions_that_are_missing_are_named_before_anything_is_asked(server, parameters, make_post, tmp_path):
    with pytest.raises(TeacherError, match="1 of 2 posts have none \\(the first is train-2\\)"):
        annotate([make_post(1, caption="A dog."), make_post(2)], [], parameters(send="caption"), tmp_path / "l.jsonl")
    assert server.requests == []


def test_answers_on_their_way_are_kept_when_another_request_ends_the_run(server, parameters, posts, tmp_path):
    annotate(posts[:1], [], parameters(), tmp_path / "l.jsonl")
    server.delay_s = 0.3
    server.faults = [(401, {}, error("Incorrect API key"))]
    with pytest.raises(TeacherError, match="refuses the API key"):
        annotate(posts, [], parameters(max_concurrency=4), tmp_path / "l.jsonl")
    assert len(server.requests) <= 1 + 5
    assert len(Ledger(tmp_path / "l.jsonl")) == len(server.requests) - 1


def _annotate_until_interrupted(posts, parameters, path):
    logging.basicConfig(level=logging.INFO, filename=path.with_suffix(".log"))
    try:
        annotate(posts, [], parameters, path)
    except KeyboardInterrupt:
        os._exit(7)


@pytest.mark.parametrize("interruptions", [1, 2])
def test_the_first_interruption_keeps_what_is_on_its_way_and_the_second_ends_at_once(
    server, parameters, posts, tmp_path, interruptions
):
    annotate(posts[:1], [], parameters(), tmp_path / "l.jsonl")
    server.delay_s = 2.0
    arguments = (posts, parameters(max_concurrency=4), tmp_path / "l.jsonl")
    process = multiprocessing.get_context("spawn").Process(target=_annotate_until_interrupted, args=arguments)
    process.start()
    deadline = time.monotonic() + 60
    while len(server.requests) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    started = time.monotonic()
    for _ in range(interruptions):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.3)
    process.join(60)
    assert process.exitcode == 7
    assert len(server.requests) == 5
    assert len(Ledger(tmp_path / "l.jsonl")) == (5 if interruptions == 1 else 1)
    assert (time.monotonic() - started < 1.7) == (interruptions == 2)


def test_a_retry_after_pauses_the_whole_run(server, parameters, posts, tmp_path):
    annotate(posts[:1], [], parameters(), tmp_path / "l.jsonl")
    server.faults = [(429, {"Retry-After": "1"}, "{}")]
    annotate(posts[:9], [], parameters(max_concurrency=1), tmp_path / "l.jsonl")
    assert len(server.requests) == 1 + 8 + 1
    assert server.times[2] - server.times[1] >= 1.0
