"""The one retry layer: which faults of a server heal by themselves, how long to wait, when to give up."""

import asyncio
import email.utils
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from mulcot_rd.teacher.errors import RequestFailedError, RequestRefusedError, TeacherError

logger = logging.getLogger(__name__)

T = TypeVar("T")

LONGEST_WAIT_S = 60.0
# A server that asks for more than this has no room for this run.
LONGEST_RETRY_AFTER_S = 600.0
# As many requests in a row without any answer between them mean that the server is not there.
FAILURES_BEFORE_GIVING_UP = 20


class TransientFaultError(Exception):
    """A fault that may heal.

    Attributes:
        reason: What it was.
        retry_after_s: How long the server asked to wait, in seconds, or ``None``.
        maybe_billed: Whether the server may have worked on an answer that did not arrive.
    """

    def __init__(self, reason: str, retry_after_s: float | None = None, *, maybe_billed: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.maybe_billed = maybe_billed


@dataclass
class RetryLayer:
    """Repeats a request after transient faults, with exponential backoff, jitter and Retry-After.

    Attributes:
        max_retries: Repeats of one request.
        backoff_s: First wait in seconds; it doubles with every repeat, up to ``LONGEST_WAIT_S``.
        answered: Whether the server has ever answered. Then what it refuses is that request's own fault; before, a
            row of refusals means that it will refuse everything.
        faults: How often each fault occurred, for the log.
    """

    max_retries: int
    backoff_s: float
    answered: bool = False
    faults: dict[str, int] = field(default_factory=dict)
    _failures_in_a_row: int = 0

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
        for repeat in range(self.max_retries + 1):
            try:
                return await send()
            except TransientFaultError as fault:
                self.faults[fault.reason] = self.faults.get(fault.reason, 0) + 1
                if repeat == self.max_retries:
                    raise RequestFailedError(f"{fault.reason}, {repeat + 1} time(s)") from None
                wait_s = self.wait_s(repeat, fault.retry_after_s)
                logger.debug("%s; again in %.1f s", fault.reason, wait_s)
            await asyncio.sleep(wait_s)
        raise AssertionError("the loop above returns or raises")

    def wait_s(self, repeat: int, retry_after_s: float | None) -> float:
        """Seconds to wait before repeat number ``repeat`` (from 0).

        Raises:
            TeacherError: If the server asks for more than ``LONGEST_RETRY_AFTER_S``.
        """
        backoff = min(LONGEST_WAIT_S, self.backoff_s * 2**repeat) * random.uniform(0.5, 1.0)
        if retry_after_s is None:
            return backoff
        if retry_after_s > LONGEST_RETRY_AFTER_S:
            raise TeacherError(
                f"the server asks to wait {retry_after_s:.0f} s before the next request; run the same command again "
                "then, answered requests are not repeated"
            )
        # Everybody is told the same moment: the jitter keeps them from coming back at once.
        return retry_after_s + random.uniform(0, 0.1 * self.backoff_s)


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a response's ``retry-after-ms`` or ``retry-after`` (seconds or HTTP date) asks for."""
    milliseconds, value = headers.get("retry-after-ms"), headers.get("retry-after")
    try:
        if milliseconds is not None:
            return max(0.0, float(milliseconds) / 1000)
        if value is not None:
            return max(0.0, float(value))
    except ValueError:
        pass
    if value is None:
        return None
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
