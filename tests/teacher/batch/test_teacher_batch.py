"""The Batch API on a loopback server: the same result as online, nothing paid for twice whatever happens between."""

import json
from collections import Counter

import pytest
from batch_server import LineError, cost_usd, notes
from fault_server import Question, Script

from mulcot_rd.teacher import TeacherError, annotate, caption_images
from mulcot_rd.teacher.errors import BudgetReachedError


@pytest.fixture
def references(make_post):
    return [make_post(number, "neutral", id=f"test-{number}", split="test") for number in range(100, 104)]


def bodies(server) -> list[dict]:
    return [json.loads(line)["body"] for upload in server.uploads for line in upload.splitlines()]


def rows(result):
    return [result.reasoning, result.references, result.quarantine, result.summary["attempts"]]


def test_batches_give_what_one_request_at_a_time_gives(server, parameters, posts, references, tmp_path):
    online = annotate(posts, references, parameters(mode="online"), tmp_path / "online.jsonl")
    result = annotate(posts, references, parameters(), tmp_path / "ledger.jsonl")
    assert rows(result) == rows(online)
    assert {record.stage for record in result.reasoning} == {1, 2}
    assert max(record.attempts for record in result.reasoning) > 1
    # Every question once: the batches hold exactly what went online.
    assert len(server.paid) == len(set(server.paid)) == len(server.requests)
    # Retries of stage one, stage two and its retries: rounds, not posts, make batches.
    assert 3 <= len(server.batches) <= 8
    assert notes(tmp_path / "ledger.jsonl") == []


def test_lines_are_chat_completions_with_the_image_and_the_known_format(server, parameters, make_post, tmp_path):
    annotate([make_post()], [], parameters(), tmp_path / "ledger.jsonl")
    line = json.loads(server.uploads[0].splitlines()[0])
    assert (line["method"], line["url"], len(line["custom_id"])) == ("POST", "/v1/chat/completions", 64)
    assert line["body"]["model"] == "fake"
    assert line["body"]["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert line["body"]["response_format"]["type"] == "json_schema"


def test_a_finished_annotation_asks_nothing_again(server, parameters, posts, references, tmp_path):
    first = annotate(posts, references, parameters(), tmp_path / "ledger.jsonl")
    server.at = lambda moment, time: pytest.fail(f"the server was asked ({moment})")
    batches, uploads = len(server.batches), len(server.uploads)
    again = annotate(posts, references, parameters(), tmp_path / "ledger.jsonl")
    assert rows(again) == rows(first)
    assert (len(server.batches), len(server.uploads)) == (batches, uploads)


def test_a_batch_costs_half(server, parameters, posts, tmp_path):
    online = annotate(posts, [], parameters(mode="online"), tmp_path / "online.jsonl")
    result = annotate(posts, [], parameters(), tmp_path / "ledger.jsonl")
    assert cost_usd(tmp_path / "ledger.jsonl") == pytest.approx(cost_usd(tmp_path / "online.jsonl") / 2)
    assert rows(result) == rows(online)


@pytest.mark.parametrize(("most", "batches"), [({"max_requests": 5}, 3), ({"max_megabytes": 1}, 3)])
def test_files_are_split_at_the_servers_limits(server, parameters, posts, tmp_path, most, batches):
    server.script = Script()
    server.reply = lambda body: Script().message(Question.read(body), body)
    posts = [post.model_copy(update={"text": post.text + " x" * 100_000}) for post in posts]
    annotate([], posts, parameters(batch={"poll_seconds": 0.02, **most}), tmp_path / "ledger.jsonl")
    assert len(server.batches) == batches
    assert max(map(len, server.uploads)) <= most.get("max_megabytes", 2) * 1_000_000
    assert sorted(Counter(server.paid).values()) == [1] * len(posts)


def test_a_create_whose_answer_was_lost_is_found_again(server, parameters, posts, tmp_path):
    lost = []

    def lose(moment: str, time: int) -> None:
        if moment == "created" and not lost:
            lost.append(moment)
            raise ConnectionResetError

    server.at = lose
    result = annotate(posts, [], parameters(), tmp_path / "ledger.jsonl")
    assert lost
    assert len(result.reasoning) + len(result.quarantine) == len(posts)
    assert len(server.paid) == len(set(server.paid))


def test_what_an_expired_batch_left_is_asked_in_the_next(server, parameters, posts, tmp_path):
    server.script = Script(seed=3)
    server.ends, server.answered_before_end = ["expired"], 5
    result = annotate([], posts, parameters(), tmp_path / "ledger.jsonl")
    assert [len(each.lines) for each in server.batches] == [12, 7]
    assert len(result.references) == 12
    assert len(server.paid) == len(set(server.paid)) == 12


def test_lines_that_may_heal_are_asked_again_and_refused_ones_are_not(server, parameters, posts, tmp_path):
    server.script = Script(seed=3)

    def error(body, earlier):
        text = str(body)
        if "number 3 " in text and earlier < 2:
            return LineError("server_error", status=500)
        if "number 4 " in text:
            return LineError("content_filter", "this is not fine", status=400)
        return None

    server.line_error = error
    result = annotate(posts, [], parameters(), tmp_path / "ledger.jsonl")
    (quarantined,) = result.quarantine
    assert quarantined.id == "train-4"
    assert "this is not fine" in quarantined.reason
    asked = Counter(Question.read(body).post for body in bodies(server) if Question.read(body).told is None)
    assert (asked[posts[3].text], asked[posts[4].text]) == (3, 1)
    assert len(server.paid) == len(set(server.paid))


def test_a_line_that_never_heals_is_given_up(server, parameters, posts, tmp_path):
    server.script = Script(seed=3)
    server.line_error = lambda body, earlier: LineError("oh", status=500) if "number 4 " in str(body) else None
    result = annotate(posts, [], parameters(max_request_retries=2), tmp_path / "ledger.jsonl")
    assert [each.id for each in result.quarantine] == ["train-4"]
    assert "3 time(s)" in result.quarantine[0].reason
    # It may be asked again by the next run, so the batch keeps nothing for it.
    assert notes(tmp_path / "ledger.jsonl") == []


def test_a_form_that_the_server_refuses_is_replaced_in_the_next_batch(server, parameters, posts, tmp_path):
    server.script = Script(seed=3)

    def error(body, earlier):
        if "response_format" in body:
            return LineError("invalid_request_error", "Invalid parameter: 'response_format' is not supported.")
        return None

    server.line_error = error
    result = annotate([], posts, parameters(), tmp_path / "ledger.jsonl")
    assert len(result.references) == 12
    assert "response_format" not in bodies(server)[-1]
    before = len(server.batches)
    annotate(
        [], [post.model_copy(update={"text": "another"}) for post in posts[:1]], parameters(), tmp_path / "ledger.jsonl"
    )
    assert len(server.batches) == before + 1


def test_a_cancelled_batch_stops_with_its_answers_kept(server, parameters, posts, tmp_path):
    server.script = Script(seed=3)
    server.ends, server.answered_before_end = ["cancelled"], 5
    with pytest.raises(TeacherError, match="cancelled with 7 question"):
        annotate([], posts, parameters(), tmp_path / "ledger.jsonl")
    result = annotate([], posts, parameters(), tmp_path / "ledger.jsonl")
    assert [len(each.lines) for each in server.batches] == [12, 7]
    assert len(result.references) == 12


def test_a_batch_that_is_refused_as_a_whole_says_why(server, parameters, posts, tmp_path):
    server.ends = ["broken", "broken"]
    with pytest.raises(TeacherError, match="refused batch1 as a whole: the broken message"):
        annotate([], posts, parameters(), tmp_path / "ledger.jsonl")
    # As if the server had repeated the key.
    with pytest.raises(TeacherError, match=r"refused batch2 as a whole: the \[key\] message"):
        annotate([], posts, parameters(), tmp_path / "ledger.jsonl", "broken")
    server.script = Script(seed=3)
    assert len(annotate([], posts, parameters(), tmp_path / "ledger.jsonl").references) == 12


def test_batches_get_smaller_where_the_account_has_no_room_for_their_tokens(server, parameters, posts, tmp_path):
    server.script = Script(seed=3)
    server.ends = ["token_limit", "token_limit"]
    result = annotate([], posts, parameters(), tmp_path / "ledger.jsonl")
    assert [len(each.lines) for each in server.batches][:3] == [12, 6, 6]
    assert len(result.references) == 12
    assert len(server.paid) == len(set(server.paid)) == 12


def test_transport_faults_between_are_waited_out(server, parameters, posts, tmp_path):
    server.script = Script(seed=3)
    server.faults = [(503, {}, "busy"), (429, {"Retry-After": "0.05"}, "{}"), (500, {}, "{}")]
    assert len(annotate([], posts, parameters(), tmp_path / "ledger.jsonl").references) == 12
    assert len(server.paid) == 12


def test_the_budget_is_kept_and_raising_it_goes_on(server, parameters, posts, tmp_path):
    server.script = Script(seed=3)
    whole = annotate([], posts, parameters(), tmp_path / "whole.jsonl")
    cost = cost_usd(tmp_path / "whole.jsonl")
    before = len(server.paid)
    server.batches.clear()
    tight = parameters(budget_usd=cost * 0.9)
    with pytest.raises(BudgetReachedError):
        annotate([], posts, tight, tmp_path / "ledger.jsonl")
    assert 0 < len(server.paid) - before < 12
    assert cost_usd(tmp_path / "ledger.jsonl") <= cost * 0.9
    result = annotate([], posts, parameters(budget_usd=cost * 2), tmp_path / "ledger.jsonl")
    assert result.references == whole.references
    assert len(server.paid) - before == 12


def test_captions_come_by_batches_too(server, parameters, posts, tmp_path):
    server.reply = lambda body: "A street by daylight."
    captions = {"provider": "openai", "mode": "batch", "base_url": server.url, "model": "seer"}
    settings = parameters(mode="online", captions=captions)
    images = [post.image for post in posts]
    records, _ = caption_images(images, settings, tmp_path / "l.jsonl")
    assert [each.caption for each in records] == ["A street by daylight."]
    assert (len(server.batches), len(server.paid), len(server.requests)) == (1, 1, 0)
