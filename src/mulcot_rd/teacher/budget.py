"""The hard stop: what may have been spent never passes ``teacher.budget_usd``.

Every request is charged with the most that it can cost before it is sent, and with its real cost once its answer is
there. What was sent is written down first, in a journal beside the ledger, so that a request whose answer never came
(timeout, lost connection, kill) stays charged with its bound in later runs too. Spent is what the ledger's answers
cost, and those bounds.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mulcot_rd.schema import Record
from mulcot_rd.teacher.appending import AppendOnlyFile, read_rows
from mulcot_rd.teacher.errors import BudgetReachedError, TransientFaultError
from mulcot_rd.teacher.ledger import Ledger
from mulcot_rd.teacher.prices import Pricing
from mulcot_rd.teacher.questions import Answer, Question

# Sums of costs are compared up to a millionth of a cent.
TOLERANCE_USD = 1e-8


class JournalRow(Record):
    """A request that was sent, or the notice that one of a key was never worked on and costs nothing.

    ``most_usd`` is the bound that was reserved, in US dollars; ``key`` is the ledger's.
    """

    event: Literal["sent", "void"]
    key: str
    most_usd: float


@dataclass
class Reservation:
    """The most that one request may cost (0 without a price), set aside until a method says what it did."""

    budget: "Budget"
    key: str
    most_usd: float

    def charge(self, answer: Answer) -> Answer:
        """Count what the answer cost, and return it; one whose tokens the server didn't count costs the bound."""
        if answer.cost_usd is None and self.budget.pricing.priced:
            answer = answer.model_copy(update={"cost_usd": self.most_usd})
        self.budget.settle(self, answer.cost_usd or 0.0)
        return answer

    def failed(self, error: BaseException) -> None:
        """No answer came, for this reason: the server may have worked on one, or not."""
        if isinstance(error, asyncio.CancelledError) or (isinstance(error, TransientFaultError) and error.maybe_billed):
            self.budget.settle(self, self.most_usd)
        else:
            self.unbilled()

    def unbilled(self) -> None:
        """The server did not work on it: it costs nothing."""
        self.budget.settle(self, 0.0)
        self.budget.note("void", self)


class Budget:
    """The spending of all annotations of one ledger.

    Attributes:
        pricing: The model's prices.
        spent_usd: Spent so far, earlier runs included; the bounds of lost requests are in it.
        reserved_usd: Bounds of the requests that are under way.
    """

    def __init__(self, limit_usd: float | None, pricing: Pricing, ledger: Ledger) -> None:
        """Add up what ledger and journal (``<name>.spending.jsonl`` beside it) say was spent.

        Without a price nothing is counted or written.
        """
        self._limit_usd = float("inf") if limit_usd is None else limit_usd
        self.pricing = pricing
        self._journal = AppendOnlyFile(ledger.path.with_suffix(".spending.jsonl"))
        self._settled = asyncio.Event()
        # Bounds of earlier runs' requests that have no answer, by key: a batch that is found again takes its own over.
        self._open = _open_requests(self._journal.path, ledger)
        self.reserved_usd = 0.0
        self.spent_usd = sum(map(sum, self._open.values()))
        for answer in ledger.answers.values():
            cost = answer.cost_usd
            # The model's own answers from before it had a price; those of other models stay without.
            if cost is None and answer.model.startswith(pricing.parameters.model):
                cost = pricing.usd(answer.usage.prompt_tokens, answer.usage.completion_tokens)
            self.spent_usd += cost or 0.0

    async def reserve(self, key: str, question: Question) -> Reservation:
        """Set the most that a request can cost aside, once it fits, and write that down.

        Waits for requests under way where these may leave enough.

        Raises:
            BudgetReachedError: If it does not fit and nothing is under way.
        """
        while (reservation := await self.try_reserve(key, question)) is None:
            if self.reserved_usd < TOLERANCE_USD:
                raise BudgetReachedError(
                    f"{self.spent_usd:.4f} of teacher.budget_usd={self._limit_usd:g} US dollars are spent and the next "
                    f"request may cost {self.pricing.most_usd(question):.4f}"
                )
            self._settled.clear()
            await self._settled.wait()
        return reservation

    async def try_reserve(self, key: str, question: Question) -> Reservation | None:
        """As :meth:`reserve`, but ``None`` where the request does not fit now."""
        most_usd = self.pricing.most_usd(question)
        if self.spent_usd + self.reserved_usd + most_usd > self._limit_usd + TOLERANCE_USD:
            return None
        reservation = self._set_aside(key, most_usd)
        self.note("sent", reservation)
        try:
            await self._journal.flush()
        except BaseException:
            # Given up while it was written: it was not sent.
            reservation.unbilled()
            raise
        return reservation

    def take_over(self, key: str) -> Reservation | None:
        """The reservation of a request that an earlier run sent and whose answer can still be had (a batch's)."""
        bounds = self._open.get(key)
        if not bounds:
            return None
        most_usd = bounds.pop()
        self.spent_usd -= most_usd
        return self._set_aside(key, most_usd)

    def settle(self, reservation: Reservation, cost_usd: float) -> None:
        """Put a cost in place of a bound."""
        self.reserved_usd -= reservation.most_usd
        self.spent_usd += cost_usd
        self._settled.set()

    def note(self, event: Literal["sent", "void"], reservation: Reservation) -> None:
        """Queue a row of the journal, for the next time that it is written."""
        if self.pricing.priced:
            self._journal.add(JournalRow(event=event, key=reservation.key, most_usd=reservation.most_usd))

    async def close(self) -> None:
        """Finish writing."""
        await self._journal.flush()

    def _set_aside(self, key: str, most_usd: float) -> Reservation:
        self.reserved_usd += most_usd
        return Reservation(self, key, most_usd)


def _open_requests(path: Path, ledger: Ledger) -> dict[str, list[float]]:
    """The bounds of requests that were sent, and neither answered nor taken back, by key."""
    sent: dict[str, list[float]] = {}
    for row in read_rows(path, JournalRow):
        bounds = sent.setdefault(row.key, [])
        if row.event == "sent":
            bounds.append(row.most_usd)
        else:
            del bounds[-1:]
    for key in sent.keys() & ledger.answers.keys():
        del sent[key][-1:]
    return sent
