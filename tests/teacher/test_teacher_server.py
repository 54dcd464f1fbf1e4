"""A server's teacher as a whole: who may ask for a ledger, and what an interruption does in a notebook."""

import asyncio
import signal
import threading
import time

import pytest

from mulcot_rd.teacher import TeacherError, TeacherParameters, annotate, ledger
from mulcot_rd.teacher.ledger import Ledger, locked_ledger


@pytest.fixture
def parameters(server):
    return TeacherParameters(provider="openai", base_url=server.url, model="fake", max_concurrency=4, timeout_s=60.0)


def test_two_processes_ask_nothing_for_one_ledger_with_a_price_or_without(
    server, parameters, make_post, tmp_path, monkeypatch
):
    monkeypatch.setattr(ledger, "LOCK_PATIENCE_S", 0.1)
    other = locked_ledger(tmp_path / "l.jsonl")
    with other, pytest.raises(TeacherError, match="another process is asking"):
        annotate([make_post()], [], parameters, tmp_path / "l.jsonl")
    assert server.requests == []
    annotate([make_post()], [], parameters, tmp_path / "l.jsonl")


def test_who_is_done_soon_is_waited_for_and_its_answers_are_seen(server, parameters, make_post, tmp_path):
    annotate([make_post()], [], parameters, tmp_path / "other.jsonl")
    locked = threading.Event()

    def other():
        with locked_ledger(tmp_path / "l.jsonl"):
            locked.set()
            time.sleep(0.3)
            (tmp_path / "l.jsonl").write_bytes((tmp_path / "other.jsonl").read_bytes())

    threading.Thread(target=other).start()
    locked.wait(10)
    annotate([make_post()], [], parameters, tmp_path / "l.jsonl")
    assert len(server.requests) == 1


def test_a_call_that_fails_at_once_leaves_the_ledger_to_the_next(parameters, make_post, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(TeacherError, match="needs an API key") as kept:
        annotate([make_post()], [], parameters.model_copy(update={"base_url": None}), tmp_path / "l.jsonl")
    monkeypatch.setattr(ledger, "LOCK_PATIENCE_S", 0.1)
    with locked_ledger(tmp_path / "l.jsonl"):
        del kept


def test_an_interruption_in_a_notebook_stops_the_annotation_and_keeps_what_is_on_its_way(
    server, parameters, make_post, tmp_path
):
    posts = [make_post(number) for number in range(40)]
    annotate(posts[:1], [], parameters, tmp_path / "l.jsonl")
    server.delay_s = 1.0

    def interrupt():
        server.wait_for_requests(5)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    async def cell():
        annotate(posts, [], parameters, tmp_path / "l.jsonl")

    # As in a notebook: a loop that is running already, and Python's own handling of the signal.
    loop = asyncio.new_event_loop()
    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(cell())
    interrupter.join()
    loop.close()
    assert len(server.requests) == 5
    assert len(Ledger(tmp_path / "l.jsonl").answers) == 5
