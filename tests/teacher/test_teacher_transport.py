"""How requests are sent: so many at once, none during a pause, none after the end."""

import asyncio
import time

import pytest

from mulcot_rd.teacher import TeacherParameters
from mulcot_rd.teacher.errors import RequestFailedError, TransientFaultError
from mulcot_rd.teacher.transport import Transport


def transport_of(max_concurrency, max_request_retries, backoff_s):
    return Transport(
        TeacherParameters(max_concurrency=max_concurrency, max_request_retries=max_request_retries, backoff_s=backoff_s)
    )


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 30))


def test_no_more_are_in_flight_than_may_be():
    async def scene():
        transport, seen = transport_of(3, 0, 1.0), []

        async def send():
            seen.append(transport.in_flight)
            await asyncio.sleep(0.01)

        await asyncio.gather(*(transport.call(send) for _ in range(10)))
        return seen, transport.in_flight

    seen, left = run(scene())
    assert (len(seen), max(seen), left) == (10, 3, 0)


def test_a_pause_holds_every_request_and_its_end_wakes_every_request():
    async def scene():
        transport, sent = transport_of(2, 1, 0.01), []

        async def send():
            sent.append(time.monotonic())
            if len(sent) == 1:
                raise TransientFaultError("429", retry_after_s=0.3)

        await asyncio.gather(*(transport.call(send) for _ in range(9)))
        return [moment - sent[0] for moment in sent]

    waits = run(scene())
    assert len(waits) == 10
    # The second had its slot before the first was told to wait.
    assert all(0.3 <= wait < 2 for wait in waits[2:])


@pytest.mark.parametrize("fault", [None, TransientFaultError("500"), TransientFaultError("429", retry_after_s=60.0)])
def test_closing_lets_what_is_in_flight_end_and_wakes_what_waits(fault):
    async def scene():
        transport = transport_of(1, 9, 60.0)
        answer = asyncio.Event()

        async def send():
            await answer.wait()
            if fault is not None:
                raise fault
            return "answer"

        calls = [asyncio.create_task(transport.call(send)) for _ in range(3)]
        await asyncio.sleep(0.05)
        if fault is None:
            transport.close()
            answer.set()
        else:
            answer.set()
            await asyncio.sleep(0.05)
            transport.close()
        return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 5)

    first, *others = run(scene())
    assert first == "answer" if fault is None else isinstance(first, RequestFailedError)
    assert all("being stopped" in str(other) for other in others)
