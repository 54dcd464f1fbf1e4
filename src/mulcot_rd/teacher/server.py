"""A teacher behind a server with all that stands around it: ledger, budget, and what the server understands."""

from dataclasses import dataclass
from pathlib import Path

from mulcot_rd.credentials import OPENAI_URL, without_password
from mulcot_rd.teacher.batch import BatchTeacher, open_batches
from mulcot_rd.teacher.budget import Budget
from mulcot_rd.teacher.capabilities import Capabilities
from mulcot_rd.teacher.errors import TeacherError
from mulcot_rd.teacher.ledger import Ledger, LedgeredProvider
from mulcot_rd.teacher.openai_client import OpenAITeacher
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.prices import Pricing
from mulcot_rd.teacher.provider import Provider, Question


@dataclass(frozen=True)
class Server:
    """A server's teacher.

    Attributes:
        provider: Whom to ask; what the ledger knows is asked nobody.
        client: The connection behind it.
    """

    provider: LedgeredProvider
    client: OpenAITeacher

    def status(self) -> str:
        """Money spent and requests in flight, for a progress bar."""
        gate, budget = self.client.gate, self.client.budget
        in_flight = f"{gate.in_flight} of {gate.limit} in flight"
        return f"{budget.spent_usd:.4f} USD, {in_flight}" if budget.priced else in_flight


def open_server(parameters: TeacherParameters, ledger_path: Path, api_key: str | None) -> Server:
    """Open the configured server, online or by batches.

    Args:
        parameters: The teacher's parameters.
        ledger_path: JSONL file of answers. Beside it are kept what was spent (``.spending.jsonl``), what the server
            understands (``.server.json``), and batches that are under way.
        api_key: The key, or ``None`` to take it from ``OPENAI_API_KEY``.

    Raises:
        TeacherError: If a key is missing, another process asks for the same ledger, or a batch is in the way.
    """
    ledger = Ledger(ledger_path, alone=True)
    try:
        return _open(parameters, ledger, ledger_path, api_key)
    except BaseException:
        # A notebook keeps a failed call's objects, and with them the lock.
        ledger.release()
        raise


def _open(parameters: TeacherParameters, ledger: Ledger, ledger_path: Path, api_key: str | None) -> Server:
    batches = ledger_path.with_suffix(".batches")
    if parameters.mode == "online" and (notes := open_batches(batches, parameters.model, ledger)):
        # Their questions would be paid for online as well.
        raise TeacherError(
            f"{len(notes)} batch(es) of an earlier run are not collected: run the same command with teacher.mode=batch "
            f"to collect them, or delete {batches} to have their questions asked again"
        )
    capabilities = Capabilities(
        ledger_path.with_suffix(".server.json"),
        f"{without_password(parameters.base_url or OPENAI_URL)} {parameters.model}",
        parameters.structured_output,
    )
    budget = Budget(parameters.budget_usd, Pricing(parameters), ledger, ledger_path)
    client = OpenAITeacher(parameters, api_key, capabilities, budget)
    asked: Provider[Question] = client
    if parameters.mode == "batch":
        asked = BatchTeacher(client, parameters, ledger, batches)
    return Server(LedgeredProvider(asked, ledger, parameters), client)
