"""Batches of a run that was killed: found again, collected to the last answer, and never paid for twice."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from batch_server import LineError, cost_usd, notes
from fault_server import Script

from mulcot_rd.teacher import TeacherError, annotate
from mulcot_rd.teacher.budget import Budget
from mulcot_rd.teacher.ledger import Ledger
from mulcot_rd.teacher.prices import Pricing

pytestmark = pytest.mark.slow

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
    budget = Budget(None, Pricing(parameters()), Ledger(ledger))
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
    budget = Budget(None, Pricing(parameters()), Ledger(ledger))
    assert budget.spent_usd == pytest.approx(cost_usd(ledger))


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


def test_a_batch_is_in_the_way_of_its_own_questions_alone(server, parameters, make_post, posts, left_batch):
    others = [make_post(number) for number in range(700, 703)]
    assert len(annotate(others, [], parameters(mode="online"), left_batch).reasoning) == len(others)
    assert len(notes(left_batch)) == 1
    annotate(posts, [], parameters(), left_batch)
    assert len(server.paid) == len(set(server.paid))


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
