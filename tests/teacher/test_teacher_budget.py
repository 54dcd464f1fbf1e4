"""The hard stop: bounds before sending, real costs after, and what was lost stays charged across runs."""

import asyncio

import pytest

from mulcot_rd.schema import Usage
from mulcot_rd.teacher import TeacherParameters
from mulcot_rd.teacher.budget import Budget
from mulcot_rd.teacher.errors import BudgetReachedError, TransientFaultError
from mulcot_rd.teacher.ledger import Ledger, LedgerRow
from mulcot_rd.teacher.prices import ModelPrice, Pricing
from mulcot_rd.teacher.questions import Answer, Request


def pricing_of(price, model="m"):
    return Pricing(TeacherParameters(model=model, max_tokens=1000, prices={} if price is None else {model: price}))


@pytest.fixture
def question(make_post):
    return Request(make_post(), None, "reasoning", send="text")


@pytest.fixture
def pricing():
    return pricing_of(ModelPrice(input_usd=1.0, output_usd=2.0))


@pytest.fixture
def most(pricing, question):
    return pricing.most_usd(question)


def run(scene, path, pricing, limit):
    """One run's spending from a fresh look at the files."""

    async def go():
        budget = Budget(limit, pricing, Ledger(path))
        try:
            return await asyncio.wait_for(scene(budget), 20)
        finally:
            await budget.close()

    return asyncio.run(go())


def answer(cost_usd):
    return Answer(text="a", model="m", usage=Usage(prompt_tokens=1, completion_tokens=1), cost_usd=cost_usd)


async def write_answer(path, key, cost_usd):
    ledger = Ledger(path)
    await ledger.append(LedgerRow(key=key, subject="p", role="reasoning", stage=1, attempt=1, answer=answer(cost_usd)))
    await ledger.close()


def test_it_waits_for_what_is_in_flight_and_goes_on_when_that_was_cheaper(tmp_path, pricing, question, most):
    async def scene(budget):
        first = await budget.reserve("a", question)
        second = asyncio.create_task(budget.reserve("b", question))
        await asyncio.sleep(0.05)
        waited = not second.done()
        first.charge(answer(most / 10))
        await second
        return waited, budget.spent_usd, budget.reserved_usd

    waited, spent, reserved = run(scene, tmp_path / "l.jsonl", pricing, 1.5 * most)
    assert waited
    assert (spent, reserved) == pytest.approx((most / 10, most))


def test_it_stops_when_nothing_is_in_flight_and_the_next_does_not_fit(tmp_path, pricing, question, most):
    async def scene(budget):
        (await budget.reserve("a", question)).failed(TransientFaultError("timeout", maybe_billed=True))
        await budget.reserve("b", question)

    with pytest.raises(BudgetReachedError, match=r"teacher\.budget_usd"):
        run(scene, tmp_path / "l.jsonl", pricing, 1.5 * most)


def test_sixty_four_at_once_never_reserve_more_than_there_is(tmp_path, pricing, question, most):
    limit, highest = 10.3 * most, 0.0

    async def scene(budget):
        nonlocal highest

        async def one(number):
            nonlocal highest
            reservation = await budget.reserve(str(number), question)
            highest = max(highest, budget.spent_usd + budget.reserved_usd)
            await asyncio.sleep(0.001 * (number % 3))
            reservation.charge(answer(most / 2))

        await asyncio.gather(*(one(number) for number in range(64)), return_exceptions=True)
        return budget.spent_usd

    spent = run(scene, tmp_path / "l.jsonl", pricing, limit)
    assert highest <= limit + 1e-9
    assert limit - most < spent <= limit


def test_a_kill_leaves_requests_in_flight_charged_and_answered_ones_at_their_cost(tmp_path, pricing, question, most):
    path = tmp_path / "l.jsonl"

    async def killed(budget):
        for key in ("answered", "open", "refused", "timed-out", "timed-out"):
            reservation = await budget.reserve(key, question)
            if key == "refused":
                reservation.unbilled()
        await write_answer(path, "answered", most / 4)

    run(killed, path, pricing, None)

    async def look(budget):
        return budget.spent_usd

    assert run(look, path, pricing, None) == pytest.approx(most / 4 + 3 * most)
    asyncio.run(write_answer(path, "timed-out", most / 4))
    assert run(look, path, pricing, None) == pytest.approx(2 * most / 4 + 2 * most)


def test_an_open_request_of_an_earlier_run_can_be_taken_over(tmp_path, pricing, question, most):
    async def killed(budget):
        await budget.reserve("a", question)

    async def resumed(budget):
        reservation = budget.take_over("a")
        reserved = budget.spent_usd, budget.reserved_usd
        reservation.charge(answer(0.0))
        return reserved, budget.spent_usd, budget.take_over("a")

    run(killed, tmp_path / "l.jsonl", pricing, None)
    reserved, spent, again = run(resumed, tmp_path / "l.jsonl", pricing, None)
    assert reserved == pytest.approx((0.0, most))
    assert (spent, again) == (0.0, None)


def test_answers_from_before_a_price_count_if_they_are_of_the_same_model(tmp_path, question):
    path = tmp_path / "l.jsonl"
    asyncio.run(write_answer(path, "a", None))

    async def look(budget):
        return budget.spent_usd

    def spent_by(model):
        price = ModelPrice(input_usd=1e6, output_usd=2e6)
        return run(look, path, pricing_of(price, model), None)

    # The answer is of "m", one token in and one out.
    assert (spent_by("m"), spent_by("another")) == (3.0, 0.0)


def test_without_a_price_nothing_is_written(tmp_path, question):
    async def scene(budget):
        (await budget.reserve("a", question)).charge(answer(None))
        return budget.spent_usd

    assert run(scene, tmp_path / "l.jsonl", pricing_of(None), None) == 0.0
    assert list(tmp_path.glob("l*")) == []
