"""A teacher behind a server with all that belongs to it: ledger, budget, and server capabilities."""

import asyncio
from pathlib import Path

from mulcot_rd.credentials import OPENAI_URL, without_password
from mulcot_rd.teacher.batch import BatchTeacher, open_batches
from mulcot_rd.teacher.budget import Budget
from mulcot_rd.teacher.capabilities import Capabilities
from mulcot_rd.teacher.errors import TeacherError
from mulcot_rd.teacher.ledger import Ledger, LedgerQuestion, question_key
from mulcot_rd.teacher.openai_client import OpenAITeacher
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.prices import Pricing
from mulcot_rd.teacher.questions import Answer, Question


class Server:
    """Asks a server only what the ledger does not know, online or by batches; equal questions are sent once.

    Attributes:
        asked: Answers that the server gave.
        remembered: Answers taken from the ledger.
    """

    def __init__(self, parameters: TeacherParameters, ledger_path: Path, api_key: str | None) -> None:
        """Open the configured server.

        Args:
            parameters: The teacher's parameters.
            ledger_path: JSONL file of answers. Beside it are kept what was spent (``.spending.jsonl``), the server's
                capabilities (``.server.json``), and batches that are under way (``.batches``).
            api_key: The key, or ``None`` to take it from ``OPENAI_API_KEY``.

        Raises:
            TeacherError: If a key is missing, another process asks for the same ledger, or a batch is in the way.
        """
        self.asked = 0
        self.remembered = 0
        self._parameters = parameters
        self._in_flight: dict[str, asyncio.Task[Answer]] = {}
        self._ledger = Ledger(ledger_path, alone=True)
        try:
            self._open(ledger_path, api_key)
        except BaseException:
            # A notebook keeps a failed call's objects, and with them the lock.
            self._ledger.release()
            raise

    def _open(self, ledger_path: Path, api_key: str | None) -> None:
        parameters, batches = self._parameters, ledger_path.with_suffix(".batches")
        if parameters.mode == "online" and (notes := open_batches(batches, parameters.model, self._ledger)):
            # Their questions would be paid for online as well.
            raise TeacherError(
                f"{len(notes)} batch(es) of an earlier run are not collected: run the same command with "
                f"teacher.mode=batch to collect them, or delete {batches} to have their questions asked again"
            )
        capabilities = Capabilities(
            ledger_path.with_suffix(".server.json"),
            f"{without_password(parameters.base_url or OPENAI_URL)} {parameters.model}",
            parameters.structured_output,
        )
        self._budget = Budget(parameters.budget_usd, Pricing(parameters), self._ledger, ledger_path)
        self._client = OpenAITeacher(parameters, api_key, capabilities, self._budget)
        self._teacher: OpenAITeacher | BatchTeacher = self._client
        if parameters.mode == "batch":
            self._teacher = BatchTeacher(self._client, parameters, self._ledger, batches)

    def status(self) -> str:
        """Money spent and requests in flight, for a progress bar."""
        in_flight = f"{self._client.transport.in_flight} of {self._parameters.max_concurrency} in flight"
        return f"{self._budget.spent_usd:.4f} USD, {in_flight}" if self._budget.priced else in_flight

    async def answer(self, question: Question) -> Answer:
        """The ledger's answer, or the server's once it is on disk.

        Whoever gives up on waiting stops nothing: the answer may have been paid for. See :meth:`drain`.

        Raises:
            ImageError: If the question's image is missing or broken.
            RequestFailedError: If this question can't be answered.
            TeacherError: If no question can.
        """
        key = question_key(question, self._parameters)
        known = self._ledger.get(key)
        if known is not None or key in self._in_flight:
            self.remembered += 1
        if known is not None:
            return known
        if key not in self._in_flight:
            self._in_flight[key] = asyncio.create_task(self._ask(key, question))
        return await asyncio.shield(self._in_flight[key])

    async def _ask(self, key: str, question: Question) -> Answer:
        try:
            answer = await self._teacher.answer(question)
            self.asked += 1
            # A batch writes its answers itself, also those that nobody waits for.
            if self._ledger.get(key) is None:
                await self._ledger.append(LedgerQuestion.of(key, question).answered(answer))
        finally:
            del self._in_flight[key]
        return answer

    async def drain(self) -> None:
        """Ask nothing more, and write down the answers that are on their way; the run is being stopped."""
        await self._teacher.drain()
        await asyncio.gather(*self._in_flight.values(), return_exceptions=True)

    async def close(self) -> None:
        """Close the connections, then the files."""
        await self._teacher.close()
        await self._budget.close()
        await self._ledger.close()
