"""How much may be sent: requests at once, which follows what the server bears, and requests and tokens a minute.

Concurrency follows AIMD, as TCP's congestion control does (Chiu and Jain, 1989): it is halved at a congestion and
climbs by one for every round of answers.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mulcot_rd.teacher.errors import TeacherError

# A little more than a minute: what left a minute ago may have arrived later than that.
WINDOW_S = 60.5
# How late a send may be and still be caught up with by the ones after it; covers the event loop's own jitter.
CATCH_UP_S = 0.05
DECREASE = 0.5


@dataclass
class Sent:
    """An amount that was let through and when (seconds of the event loop's clock)."""

    at_s: float
    amount: float


class RateLimit:
    """At most ``per_minute`` units in any 60 seconds, let through evenly and not at once."""

    def __init__(self, per_minute: int, name: str) -> None:
        """Start with nothing sent; ``name`` is the parameter's, for errors."""
        self._per_minute = per_minute
        self._name = name
        self._window: deque[Sent] = deque()
        self._total = 0.0
        self._next_s = float("-inf")
        self._turn = asyncio.Lock()

    async def acquire(self, amount: float) -> Sent:
        """Wait until ``amount`` may be sent, in the order of calls.

        Raises:
            TeacherError: If it is more than a whole minute's.
        """
        if amount > self._per_minute:
            raise TeacherError(
                f"one request takes {amount:.0f}, more than a minute of teacher.{self._name}={self._per_minute}: "
                "raise that, or lower teacher.max_tokens"
            )
        clock = asyncio.get_running_loop().time
        async with self._turn:
            while (wait_s := self._wait_s(amount, clock())) > 0:
                await asyncio.sleep(wait_s)
            sent = Sent(clock(), amount)
            self._window.append(sent)
            self._total += amount
            self._next_s = max(self._next_s, sent.at_s - CATCH_UP_S) + self._seconds(amount)
            return sent

    def correct(self, sent: Sent, amount: float) -> None:
        """Put in the true amount of something sent, once it is known."""
        if sent.at_s > asyncio.get_running_loop().time() - WINDOW_S:
            self._total += amount - sent.amount
            self._next_s += self._seconds(amount - sent.amount)
            sent.amount = amount

    def hold_until(self, at_s: float) -> None:
        """Let nothing through before ``at_s`` on the event loop's clock; then evenly again."""
        self._next_s = max(self._next_s, at_s)

    def _wait_s(self, amount: float, now_s: float) -> float:
        while self._window and self._window[0].at_s <= now_s - WINDOW_S:
            self._total -= self._window.popleft().amount
        wait_s = self._next_s - now_s
        if self._total + amount > self._per_minute and self._window:
            wait_s = max(wait_s, self._window[0].at_s + WINDOW_S - now_s)
        return wait_s

    def _seconds(self, amount: float) -> float:
        return amount * 60 / self._per_minute


class Permit:
    """The right to send one request now; says how that went when it is over."""

    def __init__(self, limits: "Limits", epoch: int, tokens: Sent | None) -> None:
        """Made by :meth:`Limits.admit` alone."""
        self._limits = limits
        self._epoch = epoch
        self._tokens = tokens

    def succeeded(self, tokens: int) -> None:
        """An answer came, of so many tokens with its prompt: concurrency climbs by one a round of answers."""
        self._limits.climb()
        if self._tokens is not None and self._limits.tokens is not None and tokens > 0:
            self._limits.tokens.correct(self._tokens, tokens)

    def refused(self, retry_after_s: float | None, *, congested: bool) -> None:
        """The server did not work on the request.

        Args:
            retry_after_s: How long nothing is to be sent, in seconds; ``None`` is not at all.
            congested: Whether it had too much to do, so that concurrency is to fall.
        """
        if congested:
            self._limits.back_off(self._epoch)
        if retry_after_s is not None:
            self._limits.pause(retry_after_s)


class Limits:
    """The one gate that every request of a run passes.

    Attributes:
        in_flight: Requests that hold a slot now.
        tokens: The limit on tokens a minute, or ``None``.
    """

    def __init__(
        self, max_concurrency: int, requests_per_minute: int | None = None, tokens_per_minute: int | None = None
    ) -> None:
        """Open the gate as far as ``max_concurrency``; a limit a minute that is ``None`` does not exist."""
        self._most = max_concurrency
        self._limit = float(max_concurrency)
        self._epoch = 0
        self._paused_until_s = float("-inf")
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._requests = None if requests_per_minute is None else RateLimit(requests_per_minute, "requests_per_minute")
        self.tokens = None if tokens_per_minute is None else RateLimit(tokens_per_minute, "tokens_per_minute")
        self.in_flight = 0

    @property
    def concurrency(self) -> int:
        """Requests that may be in flight at once now."""
        return int(self._limit)

    @asynccontextmanager
    async def admit(self, tokens: int) -> AsyncIterator[Permit]:
        """Wait for a slot and for both limits a minute; the slot is held until the block ends.

        Args:
            tokens: Tokens of prompt and answer to expect.
        """
        await self._take_slot()
        try:
            if self._requests is not None:
                await self._requests.acquire(1)
            sent = None if self.tokens is None else await self.tokens.acquire(tokens)
            while (wait_s := self._pause_s()) > 0:
                await asyncio.sleep(wait_s)
            yield Permit(self, self._epoch, sent)
        finally:
            self.in_flight -= 1
            self._let_in()

    def back_off(self, epoch: int) -> None:
        """Halve concurrency, once for all that were in flight together when the server had too much."""
        if epoch == self._epoch:
            self._epoch += 1
            self._limit = max(1.0, min(self._limit, self.in_flight) * DECREASE)

    def climb(self) -> None:
        """An answer's share of the climb: one more request for as many answers as may be in flight."""
        self._limit = min(float(self._most), self._limit + 1 / self._limit)

    def pause(self, seconds: float) -> None:
        """Send nothing for so long."""
        loop = asyncio.get_running_loop()
        self._paused_until_s = max(self._paused_until_s, loop.time() + seconds)
        for rate in (self._requests, self.tokens):
            if rate is not None:
                rate.hold_until(self._paused_until_s)
        # A timer may fire a clock tick early, and nothing else would wake those who wait.
        loop.call_at(self._paused_until_s + 0.001, self._let_in)

    def _pause_s(self) -> float:
        return self._paused_until_s - asyncio.get_running_loop().time()

    def _has_room(self) -> bool:
        return self.in_flight < self.concurrency and self._pause_s() <= 0

    async def _take_slot(self) -> None:
        if not self._waiting and self._has_room():
            self.in_flight += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.in_flight -= 1
                self._let_in()
            raise

    def _let_in(self) -> None:
        while self._waiting and self._has_room():
            turn = self._waiting.popleft()
            if not turn.done():
                self.in_flight += 1
                turn.set_result(None)
