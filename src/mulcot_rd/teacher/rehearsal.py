"""What small questions would cost, before any is asked: captions and judgements, whose answers lead to no others."""

from collections.abc import Callable, Sequence
from pathlib import Path

from mulcot_rd.teacher.errors import RequestFailedError
from mulcot_rd.teacher.ledger import Ledger, LedgeredProvider
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.prices import pricing_of
from mulcot_rd.teacher.provider import Answer, Provider, Question
from mulcot_rd.teacher.server import open_server


class Nobody:
    """A provider for dry runs: notes what it is asked and answers nothing."""

    name = "dry run"

    def __init__(self) -> None:
        self.asked: list[Question] = []

    async def answer(self, question: Question) -> Answer:
        """Note the question.

        Raises:
            RequestFailedError: Always.
        """
        self.asked.append(question)
        raise RequestFailedError("nothing is asked in a dry run")

    async def drain(self) -> None:
        """Nothing is on its way."""

    async def close(self) -> None:
        """Nothing is held open."""


def server_or_nobody(
    parameters: TeacherParameters, ledger_path: Path, api_key: str | None
) -> tuple[Provider[Question], Callable[[], str], Nobody]:
    """Who is asked, what that says of itself on a progress bar, and who stands in for it in a dry run.

    A dry run answers from the ledger; what that lacks is noted by :class:`Nobody`.
    """
    nobody = Nobody()
    if parameters.dry_run:
        return LedgeredProvider(nobody, Ledger(ledger_path), parameters), str, nobody
    server = open_server(parameters, ledger_path, api_key)
    return server.provider, server.status, nobody


def bill(asked: Sequence[Question], answer_tokens: int, settings: TeacherParameters) -> str:
    """Prompt tokens of these questions and what they cost at most, with answers of so many tokens and no retries."""
    pricing = pricing_of(settings)
    prompt_tokens = sum(pricing.prompt_tokens(question) for question in asked)
    most_usd = pricing.usd(prompt_tokens, len(asked) * answer_tokens)
    cost = "" if most_usd is None else f", at most {most_usd:.2f} US dollars without retries"
    return f"about {prompt_tokens} prompt tokens{cost}"
