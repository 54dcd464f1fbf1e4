"""How much may be sent: a fixed number of requests at once, and nothing while the server asks for a pause."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Gate:
    """The one gate that every request of a run passes.

    Attributes:
        most: Requests that may be in flight at once.
        in_flight: Requests that are in flight now.
    """

    def __init__(self, most: int) -> None:
        """Open the gate for ``most`` requests at once."""
        self.most = most
        self.in_flight = 0
        self._slots = asyncio.Semaphore(most)
        self._paused_until_s = float("-inf")

    @asynccontextmanager
    async def admit(self) -> AsyncIterator[None]:
        """Wait for a slot and for the end of a pause; the slot is held until the block ends."""
        clock = asyncio.get_running_loop().time
        async with self._slots:
            while (wait_s := self._paused_until_s - clock()) > 0:
                await asyncio.sleep(wait_s)
            self.in_flight += 1
            try:
                yield
            finally:
                self.in_flight -= 1

    def pause(self, seconds: float) -> None:
        """Send nothing for so long, as a server's ``Retry-After`` asks."""
        self._paused_until_s = max(self._paused_until_s, asyncio.get_running_loop().time() + seconds)
