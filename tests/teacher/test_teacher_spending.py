"""The hard stop, as the server's bill has it: never passed by what is in flight, by lost answers, or by kills."""

import os
import signal

import pytest
from annotator import start_annotation
from fault_server import FaultServer, Script
from test_teacher_faults import least, make_posts, rows, settings

from mulcot_rd.teacher import TeacherError, annotate
from mulcot_rd.teacher.prices import Pricing
from mulcot_rd.teacher.questions import Request

PRICE = {"input_usd": 100.0, "output_usd": 400.0}
CONCURRENCY = 64


def paid(server, **changed):
    """A teacher with a price, text alone and short answers, so that one request costs a good part of the budget."""
    fixed = {"send": "text", "max_tokens": 300, "prices": {"fake": PRICE}, "max_concurrency": CONCURRENCY}
    return settings(server, **{**fixed, **changed})


def bill(server):
    return server.cost_usd(PRICE["input_usd"], PRICE["output_usd"])


@pytest.mark.parametrize(
    "script",
    [
        Script(seed=11, flaw_share=0.2, latency_s=(0.0, 0.05)),
        Script(
            seed=12,
            flaw_share=0.2,
            fault_share=0.3,
            faults=("429", "500", "drop", "half-closed", "torn-json", "no-choices"),
            most_faults=1,
            latency_s=(0.0, 0.05),
        ),
    ],
    ids=["answers", "lost answers"],
)
def test_the_bill_never_passes_the_budget_and_raising_it_goes_on(script, image, tmp_path):
    posts = make_posts(80, image)
    ledger = tmp_path / "ledger.jsonl"
    with FaultServer(script).running() as free:
        calm = annotate(posts, [], paid(free), tmp_path / "free.jsonl")
        whole = bill(free)
    with FaultServer(script).running() as server:
        stops, answered = 0, 0
        for budget in (0.25 * whole, 0.5 * whole, 0.75 * whole, 3 * whole):
            try:
                result = annotate(posts, [], paid(server, budget_usd=budget), ledger)
            except TeacherError as error:
                stops += 1
                assert "budget_usd" in str(error)
                assert "\n" not in str(error)
            assert bill(server) <= budget
            # The budget was used, and what was answered was kept.
            kept = sum(b'"answer"' in line for line in ledger.read_bytes().splitlines())
            assert kept == len({entry.content for entry in server.answered if entry.reaction == "answer"})
            assert kept > answered
            answered = kept
        assert stops == 3
        assert server.most_in_flight > 8
        # Nothing that was answered was asked again, over all four runs.
        assert len(server.log) == least(script, posts) == len(free.log)
    assert rows(result) == rows(calm)


def test_a_request_that_timed_out_may_have_been_billed_and_stays_charged(image, tmp_path):
    (post,) = make_posts(1, image)
    ledger = tmp_path / "ledger.jsonl"
    with FaultServer(Script()).running() as server:
        bound = Pricing(paid(server)).most_usd(Request(post, None, "reasoning", send="text"))
        server.faults = ["hang"]
        for budget in (1.5 * bound, 1.9 * bound):
            # The bound of the lost one leaves no room for another, in this run and in the next.
            with pytest.raises(TeacherError, match="budget_usd"):
                annotate([post], [], paid(server, timeout_s=1.0, budget_usd=budget), ledger)
            assert len(server.log) == 1
        assert bill(server) <= bound


def test_a_kill_with_requests_in_flight_counts_them_as_spent(image, tmp_path):
    posts = make_posts(80, image)
    ledger = tmp_path / "ledger.jsonl"
    script = Script(seed=13, latency_s=(0.05, 0.1))
    with FaultServer(script).running() as free:
        calm = annotate(posts, [], paid(free), tmp_path / "free.jsonl")
        whole = bill(free)
    with FaultServer(script).running() as server:
        # A bound is some four times the cost: eight of them a kill leave less than the whole annotation takes.
        budget = 1.2 * whole
        killed = {"max_concurrency": 8, "budget_usd": budget}
        for number in range(3):
            process = start_annotation(posts, paid(server, **killed), ledger, tmp_path / f"results-{number}")
            server.wait_for_answers(server.answers_sent + 8, until=lambda process=process: not process.is_alive())
            assert process.is_alive()
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            assert bill(server) <= budget
        # What was in flight at the kills has been billed without an answer.
        assert len(server.log) > server.answers_sent
        with pytest.raises(TeacherError, match="budget_usd"):
            annotate(posts, [], paid(server, budget_usd=budget), ledger)
        assert bill(server) <= budget
        result = annotate(posts, [], paid(server, budget_usd=4 * whole), ledger)
        assert bill(server) <= 4 * whole
    assert rows(result) == rows(calm)
