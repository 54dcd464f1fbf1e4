"""When requests are sent: a fixed number at once, none during a pause, and again after faults that heal."""

import asyncio
import email.utils
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

from mulcot_rd.teacher.errors import RequestFailedError, RequestRefusedError, TeacherError, TransientFaultError

logger = logging.getLogger(__name__)

T = TypeVar("T")

LONGEST_WAIT_S = 60.0
# A server that asks for more than this has no room for this run.
LONGEST_RETRY_AFTER_S = 600.0
# As many requests in a row without any answer between them mean that the server is not there.
FAILURES_BEFORE_GIVING_UP = 20


class Gate:
    """Requests at once, pauses, and the end: every request of a run passes this one gate.

    Attributes:
        limit: Requests that may be in flight at once.
        in_flight: Requests that are in flight now.
    """

    def __init__(self, limit: int) -> None:
        """Let ``limit`` requests through at once."""
        self.limit = limit
        self.in_flight = 0
        self._slots = asyncio.Semaphore(limit)
        self._paused_until_s = float("-inf")
        self._closed = asyncio.Event()

    @asynccontextmanager
    async def admit(self) -> AsyncIterator[None]:
        """Wait for a slot and for the end of a pause; the slot is held until the block ends.

        Raises:
            RequestFailedError: If the gate is closed.
        """
        async with self._slots:
            while (wait_s := self._paused_until_s - asyncio.get_running_loop().time()) > 0:
                await self.sleep(wait_s)
            self.check_open()
            self.in_flight += 1
            try:
                yield
            finally:
                self.in_flight -= 1

    def pause(self, seconds: float) -> None:
        """Let nothing through for so long, as a server's ``Retry-After`` asks."""
        self._paused_until_s = max(self._paused_until_s, asyncio.get_running_loop().time() + seconds)

    def close(self) -> None:
        """Let nothing through any more; what is in flight goes on, and whoever sleeps wakes up."""
        self._closed.set()

    def check_open(self) -> None:
        """Raise ``RequestFailedError`` if the gate is closed."""
        if self._closed.is_set():
            raise RequestFailedError("the run is being stopped")

    async def sleep(self, seconds: float) -> None:
        """Wait so long, or until the gate is closed; raises ``RequestFailedError`` then."""
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            return
        self.check_open()


class RetryLayer:
    """Sends again after transient faults, with exponential backoff, jitter and ``Retry-After``.

    Attributes:
        answered: Whether the server has ever answered. Then what it refuses is that request's own fault; before, a
            row of refusals means that it will refuse everything.
        faults: How often each fault occurred.
    """

    def __init__(self, gate: Gate, max_retries: int, backoff_s: float, *, answered: bool = False) -> None:
        """Send through ``gate``.

        Args:
            gate: Is paused where a server asks to wait, and ends the waiting once it is closed.
            max_retries: Repeats of one request.
            backoff_s: First wait in seconds; it doubles with every repeat, up to ``LONGEST_WAIT_S``.
            answered: Whether an earlier run had an answer.
        """
        self.gate = gate
        self.max_retries = max_retries
        self.backoff_s = backoff_s
        self.answered = answered
        self.faults: Counter[str] = Counter()
        self._failures_in_a_row = 0

    async def call(self, send: Callable[[], Awaitable[T]]) -> T:
        """Send until an answer comes.

        Raises:
            RequestFailedError: If the request failed for good or its repeats are used up.
            TeacherError: If no request gets through any more.
        """
        try:
            answer = await self._repeat(send)
        except RequestFailedError as error:
            if self.answered and isinstance(error, RequestRefusedError):
                self._failures_in_a_row = 0
                raise
            self._failures_in_a_row += 1
            if self._failures_in_a_row >= FAILURES_BEFORE_GIVING_UP:
                raise TeacherError(
                    f"the teacher failed {self._failures_in_a_row} requests in a row, the last because {error}; "
                    "run the same command again once that is mended, answered requests are not repeated"
                ) from None
            raise
        self.answered = True
        self._failures_in_a_row = 0
        return answer

    async def _repeat(self, send: Callable[[], Awaitable[T]]) -> T:
        repeat = 0
        while True:
            try:
                return await send()
            except TransientFaultError as fault:
                self.faults[fault.reason] += 1
                if fault.retry_after_s is not None:
                    self.gate.pause(fault.retry_after_s)
                if repeat == self.max_retries:
                    raise RequestFailedError(f"{fault.reason}, {repeat + 1} time(s)") from None
                wait_s = self.wait_s(repeat, fault.retry_after_s)
                logger.debug("%s; again in %.1f s", fault.reason, wait_s)
            await self.gate.sleep(wait_s)
            repeat += 1

    def wait_s(self, repeat: int, retry_after_s: float | None) -> float:
        """Seconds to wait before repeat number ``repeat`` (from 0).

        Raises:
            TeacherError: If the server asks for more than ``LONGEST_RETRY_AFTER_S``.
        """
        if retry_after_s is None:
            return min(LONGEST_WAIT_S, self.backoff_s * 2**repeat) * random.uniform(0.5, 1.0)
        if retry_after_s > LONGEST_RETRY_AFTER_S:
            raise TeacherError(
                f"the server asks to wait {retry_after_s:.0f} s before the next request; run the same command again "
                "then, answered requests are not repeated"
            )
        # Every request is told the same moment: the jitter keeps them from coming back at once.
        return retry_after_s + random.uniform(0, 0.1 * self.backoff_s)


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a response's ``Retry-After`` (seconds or HTTP date) asks for; ``None`` without a readable one."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
