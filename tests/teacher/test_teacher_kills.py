"""Twenty kills in one annotation of 200 posts: nothing is lost, nothing that was recorded is asked again."""

import json
import os
import random
import signal
from collections import Counter

import pytest
from annotator import start_annotation
from fault_server import FaultServer, Script
from test_teacher_faults import least, make_posts, settings

pytestmark = pytest.mark.slow

POSTS = 200
KILLS = 20
CONCURRENCY = 8


def recorded(ledger):
    """The (post, stage, attempt) of every answer that a reader of the file finds, with how often."""
    counts = Counter()
    if ledger.exists():
        for line in ledger.read_bytes().split(b"\n"):
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if "answer" in row:
                counts[row["subject"], row["stage"], row["attempt"]] += 1
    return counts


def test_twenty_kills_lose_nothing_and_repeat_nothing_that_was_recorded(image, tmp_path):
    posts = make_posts(POSTS, image)
    ids = {post.text: post.id for post in posts}

    def asked(entry):
        return ids[entry.question.post], 2 if entry.question.told else 1, entry.question.attempt

    script = Script(
        seed=3, fault_share=0.05, flaw_share=0.2, faults=("429", "500", "drop", "torn-json"), latency_s=(0.02, 0.06)
    )

    def parameters(server):
        return settings(server, send="text", max_concurrency=CONCURRENCY)

    with FaultServer(script).running() as server:
        start_annotation(posts, parameters(server), tmp_path / "calm.jsonl", tmp_path / "calm").join(120)
        assert len(server.log) == least(script, posts)
        answers = server.answers_sent

    ledger, results = tmp_path / "ledger.jsonl", tmp_path / "results"
    # So far apart that each start brings new answers.
    stretch, draw = int(0.97 * answers) // KILLS, random.Random(7)
    moments = [stretch * number + draw.randrange(5, stretch // 2) for number in range(KILLS)]
    kills = []
    with FaultServer(script).running() as server:
        for moment in moments:
            process = start_annotation(posts, parameters(server), ledger, results)
            # What an earlier kill lost is answered again and brings the next moment no nearer.
            repeated = server.answers_sent - sum(recorded(ledger).values())
            server.wait_for_answers(moment + repeated, until=lambda process=process: not process.is_alive())
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            assert process.exitcode == -signal.SIGKILL
            kills.append((len(server.log), recorded(ledger)))
        process = start_annotation(posts, parameters(server), ledger, results)
        process.join(120)
        assert process.exitcode == 0

        for name in ("reasoning", "references", "quarantine"):
            assert (results / f"{name}.jsonl").read_bytes() == (tmp_path / "calm" / f"{name}.jsonl").read_bytes()
        # Every answer stands in the ledger once: none is missing, none was bought twice and recorded twice.
        assert recorded(ledger) == recorded(tmp_path / "calm.jsonl")
        assert set(recorded(ledger).values()) == {1}
        assert len(recorded(ledger)) == answers
        # What was recorded when a kill came was never asked for after it.
        for already, known in kills:
            assert not known.keys() & {asked(entry) for entry in server.log[already:]}
        # What was sent and not yet on disk was on its way when a kill came: a slot's answer, and the one before it
        # whose row was being synced.
        assert server.answers_sent - answers <= KILLS * 2 * CONCURRENCY
        sent = Counter(asked(entry) for entry in server.answered)
        assert sum(sent.values()) - len(sent) == server.answers_sent - answers
        assert len({len(known) for _, known in kills}) == KILLS
        print(f"{answers} answers, {KILLS} kills, {server.answers_sent - answers} answered again (killed in flight)")
