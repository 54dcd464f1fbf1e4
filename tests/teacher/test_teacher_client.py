"""What the client finds out about a server, what it keeps at a stop, and what it sends of a post."""

import json
import logging
import multiprocessing
import os
import signal
import time

import pytest
from fault_server import Script
from tests.commands import Forked
from tests.project.conftest import make_project
from tests.teacher.conftest import reasoning_text

from mulcot_rd.cli import _interrupt
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
        settings = {"provider": "openai", "base_url": server.url, "model": "fake", "backoff_s": 0.01, "timeout_s": 60.0}
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
        # A 500 may be chance; three are none.
        ("broken", ["json_schema"] * 3 + ["json_object"] * 3, "plain"),
    ],
)
def test_the_answer_s_format_is_tried_once_and_remembered(server, parameters, posts, tmp_path, way, refusals, then):
    server.script = Script(response_format=way)
    server.reply = None
    annotate(posts[:6], [], parameters(max_concurrency=1), tmp_path / "l.jsonl")
    kinds = formats(server)
    assert kinds[: len(refusals)] == refusals
    assert len(kinds) > len(refusals)
    assert set(kinds[len(refusals) :]) == {then}
    asked = len(kinds)
    annotate(posts, [], parameters(), tmp_path / "l.jsonl")
    assert set(formats(server)[asked:]) == {then}


def test_requests_that_are_refused_together_are_all_sent_again(server, parameters, posts, tmp_path):
    server.script, server.reply = Script(response_format="refused"), None
    result = annotate([], posts, parameters(), tmp_path / "l.jsonl")
    assert len(result.references) == len(posts)
    assert len(server.requests) <= 3 * len(posts)
    assert formats(server).count("plain") == len(posts)


def test_a_server_that_takes_a_schema_in_a_json_object_gets_that(server, parameters, posts, tmp_path):
    # As llama.cpp does.
    server.faults = [(500, {}, error("Input should be 'text' or 'json_object': response_format"))]
    annotate(posts, [], parameters(max_concurrency=1), tmp_path / "l.jsonl")
    assert formats(server) == ["json_schema"] + ["json_object"] * len(posts)
    assert server.requests[-1]["response_format"]["schema"] == json_schema()


@pytest.mark.parametrize("breaks", [1, 2])
def test_a_server_that_breaks_by_chance_is_not_misunderstood(server, parameters, posts, tmp_path, breaks):
    server.faults = [(500, {}, "Internal Server Error")] * breaks
    annotate(posts, [], parameters(), tmp_path / "l.jsonl")
    assert formats(server) == ["json_schema"] * (len(posts) + breaks)


def test_a_form_that_is_asked_for_is_the_only_one(server, parameters, posts, tmp_path):
    annotate(posts, [], parameters(structured_output="json_object"), tmp_path / "l.jsonl")
    assert formats(server) == ["json_object"] * len(posts)
    server.faults = [(400, {}, error("response_format is not supported"))] * 2
    with pytest.raises(TeacherError, match="response_format is not supported"):
        annotate([posts[0]], [], parameters(structured_output="json_schema", temperature=1.0), tmp_path / "l.jsonl")
    assert formats(server)[len(posts) :] == ["json_schema"] * 2


def test_a_first_request_that_hangs_holds_nobody_for_long(server, parameters, posts, tmp_path):
    server.faults = ["hang"]
    result = annotate(posts, [], parameters(timeout_s=4.0), tmp_path / "l.jsonl")
    assert len(result.reasoning) == len(posts)
    assert len(server.requests) == len(posts) + 1
    assert server.times[len(posts) - 1] - server.times[0] < 3.0


def test_posts_that_are_refused_for_good_end_no_run_of_a_server_that_answers(
    server, parameters, make_post, posts, tmp_path
):
    refused = [make_post(number) for number in range(100, 125)]
    annotate(posts, [], parameters(), tmp_path / "l.jsonl")
    for _ in range(2):
        # Each of them is refused in both stages; the others are in the ledger.
        server.faults = [(400, {}, error("flagged by the content management policy"))] * (2 * len(refused))
        result = annotate([*posts, *refused], [], parameters(), tmp_path / "l.jsonl")
        assert [post.id for post in result.reasoning] == [post.id for post in posts]
        assert [post.id for post in result.quarantine] == [post.id for post in refused]


def test_a_server_that_refuses_everything_is_left_soon(server, parameters, make_post, tmp_path):
    server.faults = [(400, {}, error("this model takes no images"))] * 1000
    with pytest.raises(TeacherError, match=r"20 requests in a row, the last because .*this model takes no images"):
        annotate([make_post(number) for number in range(200)], [], parameters(), tmp_path / "l.jsonl")


@pytest.mark.parametrize(
    ("status", "said", "meant"),
    [
        (400, "Your credit balance is too low to access the API.", "quota is spent"),
        (400, "Billing hard limit has been reached", "quota is spent"),
        (400, "API key not valid. Please pass a valid API key.", "refuses the API key"),
    ],
)
def test_an_account_without_money_ends_a_run_whatever_the_status(
    server, parameters, posts, tmp_path, status, said, meant
):
    annotate(posts[:1], [], parameters(), tmp_path / "l.jsonl")
    server.faults = [(status, {}, error(said))] * 40
    with pytest.raises(TeacherError, match=meant):
        annotate(posts, [], parameters(max_concurrency=1), tmp_path / "l.jsonl")


def test_a_moderated_post_is_no_wrong_key(server, parameters, posts, tmp_path):
    server.faults = [(403, {}, error("Your chosen model requires moderation and your input was flagged"))]
    result = annotate(posts, [], parameters(), tmp_path / "l.jsonl")
    assert not result.quarantine
    assert [record.stage for record in result.reasoning].count(2) == 1
    assert len(server.requests) == len(posts) + 1


def test_a_stage_whose_conversation_grows_too_long_ends_with_the_answers_that_it_has(
    server, parameters, make_post, tmp_path
):
    server.reply = lambda body: reasoning_text("positive") if "established" in str(body) else "I ramble on and on."
    annotate([make_post(1)], [], parameters(max_retries=0), tmp_path / "l.jsonl")
    asked = len(server.requests)
    server.faults = [
        (400, {}, error("This model's maximum context length is 64 tokens", code="context_length_exceeded"))
    ]
    result = annotate([make_post(1)], [], parameters(), tmp_path / "l.jsonl")
    # The first answer of stage one and stage two are in the ledger; the retry alone was asked, and refused.
    assert len(server.requests) == asked + 1
    assert [(record.stage, record.attempts) for record in result.reasoning] == [(2, 1)]


@pytest.mark.parametrize(
    "broken",
    [
        {"choices": [{"message": {"content": "Good"}, "finish_reason": 3}]},
        {"choices": [{"message": {"content": "Good"}}], "usage": {"prompt_tokens": "many"}},
        {"choices": "none"},
        {"error": {"message": "the provider is down", "code": 502}},
        {"error": {"message": "slow down", "code": "429"}},
        {"choices": [{"message": {"content": "The text"}, "finish_reason": "error"}]},
        {"choices": [{"message": {"content": ""}, "error": {"message": "Provider returned error", "code": 502}}]},
        [],
    ],
)
def test_an_answer_of_another_shape_is_asked_for_again(server, parameters, make_post, tmp_path, broken):
    server.faults = [(200, {}, json.dumps(broken))]
    result = annotate([make_post()], [], parameters(), tmp_path / "l.jsonl")
    assert len(result.reasoning) == 1
    assert len(server.requests) == 2


def test_a_first_request_that_is_refused_for_its_content_shows_nothing_of_the_format(
    server, parameters, posts, tmp_path
):
    server.faults = [
        (400, {}, error("This model's maximum context length is 64 tokens", code="context_length_exceeded"))
    ]
    result = annotate(posts, [], parameters(), tmp_path / "l.jsonl")
    assert [record.stage for record in result.reasoning].count(2) == 1
    assert formats(server) == ["json_schema"] * (len(posts) + 1)


def test_without_structured_output_no_format_is_sent(server, parameters, posts, tmp_path):
    annotate(posts, [], parameters(structured_output="off"), tmp_path / "l.jsonl")
    assert formats(server) == ["plain"] * len(posts)


def test_structured_output_is_transport_and_repeats_nothing(server, parameters, posts, tmp_path):
    annotate(posts, [], parameters(structured_output="off"), tmp_path / "l.jsonl")
    asked = len(server.requests)
    annotate(posts, [], parameters(), tmp_path / "l.jsonl")
    assert len(server.requests) == asked


def test_a_model_that_wants_max_completion_tokens_is_asked_so_once_it_has_said_so(server, parameters, posts, tmp_path):
    server.faults = [(400, {}, error(NEWER_MODEL, param="max_tokens", code="unsupported_parameter"))]
    annotate(posts, [], parameters(max_concurrency=1), tmp_path / "l.jsonl")
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


def test_answers_on_their_way_are_kept_when_another_request_ends_the_run(server, parameters, posts, tmp_path):
    annotate(posts[:1], [], parameters(), tmp_path / "l.jsonl")
    server.delay_s = 0.3
    server.faults = [(401, {}, error("Incorrect API key"))]
    with pytest.raises(TeacherError, match="refuses the API key"):
        annotate(posts, [], parameters(max_concurrency=4), tmp_path / "l.jsonl")
    # The run does not go through all that is left.
    assert len(server.requests) < len(posts)
    assert len(Ledger(tmp_path / "l.jsonl").answers) == len(server.requests) - 1


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
    # Whoever waits for what is on its way waits for so long; whoever gives it up is gone long before.
    server.delay_s = 2.0 if interruptions == 1 else 40.0
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
    assert len(Ledger(tmp_path / "l.jsonl").answers) == (5 if interruptions == 1 else 1)
    assert time.monotonic() - started < 30


@pytest.mark.slow
def test_a_run_that_is_asked_to_end_keeps_what_is_on_its_way(server, tmp_path):
    project = make_project(tmp_path / "project")
    server.delay_s = 3.0
    named = f"limit=6,teacher.provider=openai,teacher.base_url={server.url},teacher.max_concurrency=4"
    run = Forked(project, "run", "--pipelines", "data_preparation,teacher_annotation", "--params", named)
    deadline = time.monotonic() + 120
    while len(server.requests) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGTERM)
    assert run.wait().returncode not in (0, -signal.SIGTERM)
    ledger = Ledger(project / "data/05_model_input/sample/teacher_ledger.jsonl")
    assert len(ledger.answers) == len(server.requests) == 4


@pytest.mark.parametrize(
    ("interruption", "end"), [(signal.default_int_handler, KeyboardInterrupt), (signal.SIG_IGN, SystemExit)]
)
def test_a_run_in_the_background_of_a_shell_ends_as_well(interruption, end):
    before = signal.signal(signal.SIGINT, interruption)
    try:
        with pytest.raises(end):
            _interrupt()
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_retry_after_pauses_the_whole_run(server, parameters, posts, tmp_path):
    annotate(posts[:1], [], parameters(), tmp_path / "l.jsonl")
    server.faults = [(429, {"Retry-After": "1"}, "{}")]
    annotate(posts[:9], [], parameters(max_concurrency=1), tmp_path / "l.jsonl")
    assert len(server.requests) == 1 + 8 + 1
    assert server.times[2] - server.times[1] >= 1.0


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "reasoning_content": reasoning_text("positive")},
        {"content": "", "reasoning": reasoning_text("positive")},
        {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": reasoning_text("positive")}]},
    ],
    ids=["reasoning_content", "reasoning", "parts"],
)
def test_an_answer_is_read_wherever_the_server_puts_it(server, parameters, make_post, tmp_path, message):
    server.faults = [(200, {}, json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}))]
    result = annotate([make_post()], [], parameters(), tmp_path / "l.jsonl")
    assert [(record.prediction, record.attempts) for record in result.reasoning] == [("positive", 1)]
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("word", "attempts"), [("end_turn", 1), ("eos_token", 1), ("MAX_TOKENS", 2), ("SAFETY", 2), ("recitation", 2)]
)
def test_how_an_answer_ended_is_read_in_other_servers_words(server, parameters, make_post, tmp_path, word, attempts):
    message = {"content": reasoning_text("positive")}
    server.faults = [(200, {}, json.dumps({"choices": [{"message": message, "finish_reason": word}]}))]
    result = annotate([make_post()], [], parameters(), tmp_path / "l.jsonl")
    assert [record.attempts for record in result.reasoning] == [attempts]


def test_an_empty_answer_is_no_empty_turn(server, parameters, make_post, tmp_path):
    server.faults = [(200, {}, json.dumps({"choices": [{"message": {"content": None}, "finish_reason": "stop"}]}))]
    result = annotate([make_post()], [], parameters(), tmp_path / "l.jsonl")
    assert [record.attempts for record in result.reasoning] == [2]
    assert all(turn["content"] for body in server.requests for turn in body["messages"])


def test_half_an_emoji_in_an_answer_is_kept_as_a_mark(server, parameters, make_post, tmp_path):
    body = json.dumps({"choices": [{"message": {"content": reasoning_text("positive").replace(".", "\ud83d.", 1)}}]})
    server.faults = [(200, {}, body)]
    result = annotate([make_post()], [], parameters(), tmp_path / "l.jsonl")
    assert len(server.requests) == len(result.reasoning) == 1
    assert "\ufffd" in result.reasoning[0].model_dump_json()


def test_a_label_in_thoughts_that_were_cut_is_a_draft(server, parameters, make_post, tmp_path):
    message = {"content": None, "reasoning_content": "It would be positive. But"}
    server.faults = [(200, {}, json.dumps({"choices": [{"message": message, "finish_reason": "length"}]}))]
    result = annotate([make_post()], [], parameters(max_retries=1), tmp_path / "l.jsonl")
    assert [record.attempts for record in result.reasoning] == [2]


def test_an_error_with_status_200_ends_the_run_with_what_the_server_said(server, parameters, posts, tmp_path):
    said = "Unexpected endpoint or method. (POST /chat/completions). Returning 200 anyway"
    server.faults = [(200, {}, json.dumps({"error": said}))] * 40
    with pytest.raises(TeacherError, match=r"Unexpected endpoint or method.*check teacher\.base_url"):
        annotate(posts, [], parameters(max_concurrency=1), tmp_path / "l.jsonl")
    # The next post's request may be on its way by then.
    assert len(server.requests) <= 2
