"""How requests are sent: a fixed number at once, none during a pause, and again after faults that heal."""

import asyncio
import email.utils
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TypeVar

from mulcot_rd.teacher.errors import RequestFailedError, RequestRefusedError, TeacherError, TransientFaultError
from mulcot_rd.teacher.parameters import TeacherParameters

logger = logging.getLogger(__name__)

T = TypeVar("T")

LONGEST_WAIT_S = 60.0
# A server that asks for more than this has no room for this run.
LONGEST_RETRY_AFTER_S = 600.0
# As many requests in a row without any answer between them mean that the server is not there.
FAILURES_BEFORE_GIVING_UP = 20


class Transport:
    """The one way to a server. A request holds a slot while it is sent and answered, and none while it waits.

    Attributes:
        in_flight: Requests that are in flight now.
        answered: Whether the server has ever answered. Then what it refuses is that request's own fault; before, a
            row of refusals means that it will refuse everything.
        faults: How often each fault occurred.
    """

    def __init__(self, parameters: TeacherParameters, *, answered: bool = False) -> None:
        """Take the limits from the parameters; ``answered``: the server did in an earlier run."""
        self.in_flight = 0
        self.answered = answered
        self.faults: Counter[str] = Counter()
        self._parameters = parameters
        self._failures_in_a_row = 0
        self._slots = asyncio.Semaphore(parameters.max_concurrency)
        self._paused_until_s = 0.0
        self._closed = asyncio.Event()

    async def call(self, send: Callable[[], Awaitable[T]]) -> T:
        """Send until an answer comes.

        Raises:
            RequestFailedError: If the request failed for good, its repeats are used up, or the transport is closed.
            TeacherError: If no request gets through any more.
        """
        try:
            answer = await self._repeat(send)
        except RequestFailedError as error:
            refused = self.answered and isinstance(error, RequestRefusedError)
            self._failures_in_a_row = 0 if refused else self._failures_in_a_row + 1
            if self._failures_in_a_row >= FAILURES_BEFORE_GIVING_UP:
                raise TeacherError(
                    f"the teacher failed {self._failures_in_a_row} requests in a row, the last because {error}; "
                    "run the same command again once that is mended, answered requests are not repeated"
                ) from None
            raise
        self.answered = True
        self._failures_in_a_row = 0
        return answer

    def close(self) -> None:
        """Send nothing more; what is in flight goes on, and whoever waits to send stops waiting."""
        self._closed.set()

    def check_open(self) -> None:
        """Raise ``RequestFailedError`` if the transport is closed."""
        if self._closed.is_set():
            raise RequestFailedError("the run is being stopped")

    async def _repeat(self, send: Callable[[], Awaitable[T]]) -> T:
        repeat = 0
        while True:
            try:
                return await self._once(send)
            except TransientFaultError as fault:
                self.faults[str(fault)] += 1
                if fault.retry_after_s is not None:
                    self._paused_until_s = max(self._paused_until_s, time.monotonic() + fault.retry_after_s)
                if repeat == self._parameters.max_request_retries:
                    raise RequestFailedError(f"{fault}, {repeat + 1} time(s)") from None
                wait_s = self.wait_s(repeat, fault.retry_after_s)
                logger.debug("%s; again in %.1f s", fault, wait_s)
            await self._sleep(wait_s)
            repeat += 1

    async def _once(self, send: Callable[[], Awaitable[T]]) -> T:
        async with self._slots:
            while (wait_s := self._paused_until_s - time.monotonic()) > 0:
                await self._sleep(wait_s)
            self.check_open()
            self.in_flight += 1
            try:
                return await send()
            finally:
                self.in_flight -= 1

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), seconds)
        self.check_open()

    def wait_s(self, repeat: int, retry_after_s: float | None) -> float:
        """Seconds to wait before repeat number ``repeat`` (from 0).

        Raises:
            TeacherError: If the server asks for more than ``LONGEST_RETRY_AFTER_S``.
        """
        # 0 seconds, or a date that this machine's clock has passed, say as little as nothing.
        if not retry_after_s:
            return min(LONGEST_WAIT_S, self._parameters.backoff_s * 2**repeat) * random.uniform(0.5, 1.0)
        if retry_after_s > LONGEST_RETRY_AFTER_S:
            raise TeacherError(
                f"the server asks to wait {retry_after_s:.0f} s before the next request; run the same command again "
                "then, answered requests are not repeated"
            )
        # Every request is told the same moment: the jitter keeps them from coming back at once.
        return retry_after_s + random.uniform(0, 0.1 * self._parameters.backoff_s)


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a response's ``Retry-After`` (seconds or HTTP date) asks for; ``None`` without a readable one."""
    value = headers.get("retry-after", "")
    with suppress(ValueError):
        return max(0.0, float(value))
    with suppress(ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None
