"""What may be sent: so many requests at once, and nothing during a pause."""

import asyncio

from mulcot_rd.teacher.transport import Gate


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 30))


def test_no_more_are_in_flight_than_may_be():
    async def scene():
        gate, seen = Gate(3), []

        async def one():
            async with gate.admit():
                seen.append(gate.in_flight)
                await asyncio.sleep(0.01)

        await asyncio.gather(*(one() for _ in range(10)))
        return seen, gate.in_flight

    seen, left = run(scene())
    assert (len(seen), max(seen), left) == (10, 3, 0)


def test_a_pause_holds_everybody_and_its_end_wakes_everybody():
    async def scene():
        gate, clock = Gate(4), asyncio.get_running_loop().time
        started = clock()

        async def one():
            async with gate.admit():
                return clock() - started

        gate.pause(0.2)
        gate.pause(0.1)
        return await asyncio.gather(*(one() for _ in range(9)))

    waits = run(scene())
    assert all(0.2 <= wait < 2 for wait in waits)


def test_who_gives_up_waiting_takes_no_slot_with_them():
    async def scene():
        gate = Gate(1)
        async with gate.admit():
            waiting = [asyncio.create_task(gate.admit().__aenter__()) for _ in range(3)]
            await asyncio.sleep(0)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        async with gate.admit():
            return gate.in_flight

    assert run(scene()) == 1
