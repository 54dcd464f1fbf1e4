"""The Batch API on a loopback server: the same result as online, nothing paid for twice whatever happens between."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from batch_server import BatchServer, LineError
from fault_server import Question, Script

from mulcot_rd.teacher import TeacherError, TeacherParameters, annotate, batch, caption_images
from mulcot_rd.teacher.budget import Budget
from mulcot_rd.teacher.errors import BudgetReachedError
from mulcot_rd.teacher.ledger import Ledger
from mulcot_rd.teacher.prices import Pricing

PRICES = {"fake": {"input_usd": 1.0, "output_usd": 1.0, "images": {"rule": "patches", "patch": 28}}}
LABELS = ("positive", "negative", "neutral")


@pytest.fixture(autouse=True)
def _soon_quiet(monkeypatch):
    monkeypatch.setattr(batch, "QUIET_S", 0.1)


@pytest.fixture
def server():
    with BatchServer(script=Script(seed=3, flaw_share=0.3)).running() as server:
        yield server


@pytest.fixture
def parameters(server):
    def make(**changed):
        settings = {
            "provider": "openai",
            "mode": "batch",
            "base_url": server.url,
            "model": "fake",
            "backoff_s": 0.01,
            "timeout_s": 10.0,
            "prices": PRICES,
            "batch": {"poll_seconds": 0.02, "completion_window": "24h"},
        }
        return TeacherParameters(**{**settings, **changed})

    return make


@pytest.fixture
def posts(make_post):
    return [make_post(number, LABELS[number % 3]) for number in range(12)]


@pytest.fixture
def references(make_post):
    return [make_post(number, "neutral", id=f"test-{number}", split="test") for number in range(100, 104)]


def notes(ledger: Path) -> list[Path]:
    return list(ledger.with_suffix(".batches").iterdir())


def cost_usd(ledger: Path) -> float:
    return sum(json.loads(line)["answer"]["cost_usd"] for line in ledger.read_text().splitlines())


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


@pytest.mark.parametrize(("most", "batches"), [({"max_requests": 5}, 3), ({"max_megabytes": 1}, 1)])
def test_files_are_split_at_the_servers_limits(server, parameters, posts, tmp_path, most, batches):
    server.script = Script()
    server.reply = lambda body: Script().message(Question.read(body), body)
    annotate([], posts, parameters(batch={"poll_seconds": 0.02, **most}), tmp_path / "ledger.jsonl")
    assert len(server.batches) == batches
    assert sorted(Counter(server.paid).values()) == [1] * len(posts)


# The server kills the client at the very moment: before or after it did what it was asked, with the answer unsent.
MOMENTS = [
    ("upload", 1),
    ("uploaded", 1),
    ("create", 1),
    ("created", 1),
    ("retrieve", 1),
    ("retrieve", 3),
    ("content", 1),
    ("content", 2),
    ("created", 2),
    ("retrieve", 6),
    ("content", 3),
]

CLIENT = """
import json, sys
from pathlib import Path
from mulcot_rd.schema import Post
from mulcot_rd.teacher import TeacherParameters, annotate, batch, caption_images
batch.QUIET_S = 0.1
given = json.loads(sys.stdin.read())
posts = [Post(**post) for post in given["posts"]]
result = annotate(posts, [], TeacherParameters(**given["parameters"]), Path(given["ledger"]))
print(json.dumps([record.model_dump(mode="json") for record in result.reasoning]))
"""


def start(parameters, posts, ledger, code=CLIENT):
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    given = {
        "posts": [post.model_dump(mode="json") for post in posts],
        "parameters": parameters.model_dump(mode="json"),
        "ledger": str(ledger),
    }
    process.stdin.write(json.dumps(given).encode())
    process.stdin.close()
    process.stdin = None
    return process


def test_a_kill_at_any_moment_pays_for_nothing_twice(server, parameters, posts, tmp_path):
    undisturbed = annotate(posts, [], parameters(), tmp_path / "undisturbed.jsonl")
    questions = len(server.paid)
    server.paid.clear()
    server.batches.clear()
    # A line that fails once makes an error file: its download is a moment of its own.
    server.line_error = lambda body, earlier: (
        LineError("server_error", status=500) if earlier == 0 and "number 7" in str(body) else None
    )
    ledger = tmp_path / "ledger.jsonl"
    killed = []
    running: list[subprocess.Popen] = []
    known = threading.Event()

    def kill(moment: str, time: int) -> None:
        assert known.wait(10)
        if due and due[0] == (moment, time):
            killed.append(due.pop(0))
            running[-1].send_signal(signal.SIGKILL)
            running[-1].wait()

    server.at = kill
    for moment in MOMENTS:
        due = [moment]
        server._moments.clear()
        known.clear()
        running.append(start(parameters(), posts, ledger))
        known.set()
        out, err = running[-1].communicate(timeout=60)
        assert running[-1].returncode in (0, -signal.SIGKILL), err.decode()
        if running[-1].returncode == 0:
            break
    due = []
    running.append(start(parameters(), posts, ledger))
    out, err = running[-1].communicate(timeout=60)
    assert running[-1].returncode == 0, err.decode()
    assert json.loads(out) == [record.model_dump(mode="json") for record in undisturbed.reasoning]
    assert len(killed) >= 8
    assert len(server.paid) == len(set(server.paid)) == questions
    assert notes(ledger) == []
    # What the kills left open is settled: nothing is charged but the answers.
    budget = Budget(None, Pricing(parameters()), Ledger(ledger), ledger)
    assert budget.spent_usd == pytest.approx(cost_usd(ledger))


@pytest.mark.parametrize("end", ["import os; os._exit(9)", "raise OSError('disk full')"], ids=["killed", "failed"])
def test_what_was_never_sent_is_not_charged(server, parameters, posts, tmp_path, end):
    ledger = tmp_path / "ledger.jsonl"
    before_sending = f"""
from mulcot_rd.teacher.openai_client import OpenAITeacher
def call(*arguments):
    {end}
OpenAITeacher.call = call
given ="""
    process = start(parameters(), posts, ledger, CLIENT.replace("\ngiven =", before_sending))
    process.communicate(timeout=60)
    assert process.returncode in (1, 9)
    assert server.uploads == []
    annotate(posts, [], parameters(), ledger)
    budget = Budget(None, Pricing(parameters()), Ledger(ledger), ledger)
    assert budget.spent_usd == pytest.approx(cost_usd(ledger))


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


@pytest.fixture
def left_batch(server, parameters, posts, tmp_path):
    """The ledger of a run that was killed with a batch under way."""
    server.script = Script(seed=3)
    ledger = tmp_path / "ledger.jsonl"
    process = start(parameters(), posts, ledger)
    server.at = lambda moment, time: moment == "retrieve" and os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    server.at = lambda moment, time: None
    return ledger


def test_nobody_else_is_asked_what_is_in_a_batch(server, parameters, posts, left_batch):
    ledger = left_batch
    with pytest.raises(TeacherError, match=r"teacher\.mode=batch"):
        annotate(posts, [], parameters(mode="online"), ledger)
    with pytest.raises(TeacherError, match=r"set teacher\.base_url back"):
        annotate(posts, [], parameters(base_url="http://127.0.0.1:9/v1"), ledger)
    annotate(posts, [], parameters(), ledger)
    assert len(server.paid) == len(set(server.paid))


def test_captions_come_by_batches_too(server, parameters, posts, tmp_path):
    server.reply = lambda body: "A street by daylight."
    captions = {"provider": "openai", "mode": "batch", "base_url": server.url, "model": "seer"}
    settings = parameters(mode="online", captions=captions)
    images = [post.image for post in posts]
    assert [each.caption for each in caption_images(images, settings, tmp_path / "l.jsonl").records] == [
        "A street by daylight."
    ]
    assert (len(server.batches), len(server.paid), len(server.requests)) == (1, 1, 0)


def test_answers_that_nobody_waits_for_any_more_are_kept(server, parameters, posts, left_batch):
    annotate(posts[:3], [], parameters(), left_batch)
    assert notes(left_batch) == []
    rows = [json.loads(line) for line in left_batch.read_text().splitlines()]
    assert {row["subject"] for row in rows if (row["stage"], row["attempt"]) == (1, 1)} == {each.id for each in posts}
    assert sorted(row["key"] for row in rows) == sorted(server.paid)


def test_a_form_refused_after_a_kill_is_replaced_too(server, parameters, posts, left_batch):
    server.line_error = lambda body, earlier: (
        LineError("invalid_request_error", "Invalid parameter: 'response_format' is not supported.")
        if "response_format" in body
        else None
    )
    result = annotate(posts, [], parameters(), left_batch)
    assert len(result.reasoning) == len(posts)
    assert len(server.paid) == len(set(server.paid))


def test_a_batch_that_the_server_lost_says_what_to_delete(server, parameters, posts, left_batch):
    (note,) = notes(left_batch)
    server.batches.clear()
    with pytest.raises(TeacherError, match=f"has no batch1 any more: delete {note}"):
        annotate(posts, [], parameters(), left_batch)
    note.unlink()
    assert len(annotate(posts, [], parameters(), left_batch).reasoning) == len(posts)


def test_a_note_that_is_torn_says_what_to_delete(parameters, posts, left_batch):
    (note,) = notes(left_batch)
    note.write_text("{")
    with pytest.raises(TeacherError, match=f"{note} can't be read: delete it"):
        annotate(posts, [], parameters(), left_batch)
