"""What may be sent: concurrency that follows congestion, pauses, and limits a minute without bursts."""

import asyncio

import pytest

from mulcot_rd.teacher import limits as module
from mulcot_rd.teacher.errors import TeacherError
from mulcot_rd.teacher.limits import Limits, RateLimit


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 30))


def test_one_congestion_halves_concurrency_once_however_many_requests_it_hits():
    async def scene():
        limits = Limits(16)
        entered = [limits.admit(0) for _ in range(16)]
        permits = [await one.__aenter__() for one in entered]
        for permit in permits:
            permit.refused(None, congested=True)
        after_one = limits.concurrency
        for one in entered:
            await one.__aexit__(None, None, None)
        async with limits.admit(0) as permit:
            permit.refused(None, congested=True)
        return after_one, limits.concurrency

    # The second congestion was met with one request in flight: fewer than one can't be.
    assert run(scene()) == (8, 1)


def test_concurrency_climbs_by_one_a_round_of_answers_and_never_above_the_most():
    async def scene():
        limits = Limits(8)
        async with limits.admit(0) as permit:
            permit.refused(None, congested=True)
        seen = []
        for _ in range(60):
            async with limits.admit(0) as permit:
                permit.succeeded(0)
            seen.append(limits.concurrency)
        return seen

    seen = run(scene())
    assert seen[0] == 2
    assert seen == sorted(seen)
    assert max(seen) == 8
    # 1 + 2 + ... + 7 answers take it from 1 to 8, about.
    assert 20 <= seen.index(8) <= 40


def test_a_pause_holds_everybody_and_its_end_wakes_everybody():
    async def scene():
        limits, clock = Limits(4), asyncio.get_running_loop().time
        started = clock()

        async def one():
            async with limits.admit(0):
                return clock() - started

        async with limits.admit(0) as permit:
            permit.refused(0.2, congested=False)
        return await asyncio.gather(*(one() for _ in range(9)))

    waits = run(scene())
    assert all(0.2 <= wait < 2 for wait in waits)


def test_who_gives_up_waiting_takes_no_slot_with_them():
    async def scene():
        limits = Limits(1)
        async with limits.admit(0):
            waiting = [asyncio.create_task(limits.admit(0).__aenter__()) for _ in range(3)]
            await asyncio.sleep(0)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        async with limits.admit(0):
            return limits.in_flight

    assert run(scene()) == 1


def sent_in_windows(times, amounts, window_s):
    return max(
        sum(amount for time, amount in zip(times, amounts, strict=True) if start <= time < start + window_s)
        for start in times
    )


def test_no_window_has_more_than_a_minute_s_share_and_sends_are_even(monkeypatch):
    # A minute of 0.5 s: 20 units in any half second.
    monkeypatch.setattr(module, "WINDOW_S", 0.5)

    async def scene(amounts):
        clock = asyncio.get_running_loop().time
        rate = RateLimit(20, "requests_per_minute")
        rate._seconds = lambda amount: amount * 0.5 / 20
        times = []
        for amount in amounts:
            await rate.acquire(amount)
            times.append(clock())
        return times

    amounts = [1] * 60
    times = run(scene(amounts))
    assert sent_in_windows(times, amounts, 0.49) <= 20
    assert times[19] - times[0] >= 0.35
    assert times[-1] - times[0] < 3
    amounts = [7, 1, 12, 3, 20, 1, 1, 9]
    assert sent_in_windows(run(scene(amounts)), amounts, 0.49) <= 20


def test_a_corrected_amount_makes_room(monkeypatch):
    monkeypatch.setattr(module, "WINDOW_S", 0.3)

    async def scene(actual):
        clock = asyncio.get_running_loop().time
        rate = RateLimit(100, "tokens_per_minute")
        rate._seconds = lambda amount: amount * 0.3 / 100
        started = clock()
        sent = await rate.acquire(100)
        rate.correct(sent, actual)
        await rate.acquire(80)
        return clock() - started

    assert run(scene(10)) < 0.15
    assert run(scene(100)) >= 0.25


def test_a_request_larger_than_a_minute_is_refused_in_words():
    with pytest.raises(TeacherError, match=r"teacher\.tokens_per_minute=50"):
        run(RateLimit(50, "tokens_per_minute").acquire(51))
