"""Asking a question, and asking again where the answer is unusable: the adaptive retry controller (Appendix E)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from mulcot_rd.schema import Usage
from mulcot_rd.teacher import dry_run
from mulcot_rd.teacher.errors import RequestFailedError, RequestRefusedError
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.questions import Answer, Question
from mulcot_rd.teacher.running import AnswerTo, ask_server, run

QuestionT = TypeVar("QuestionT", bound=Question)


@dataclass(frozen=True)
class Asked(Generic[QuestionT]):
    """What asking came to.

    Attributes:
        question: The last one, with the unusable answers before it.
        usable: Its usable answer, or ``None``.
        failure: Why the last question got no answer at all, or ``None``.
        refused: Whether the server refused it for good (too long, filtered).
    """

    question: QuestionT
    usable: Answer | None
    failure: str | None = None
    refused: bool = False

    @property
    def answers(self) -> tuple[Answer, ...]:
        """All answers, the usable one last."""
        unusable = tuple(earlier.answer for earlier in self.question.history)
        return unusable if self.usable is None else (*unusable, self.usable)

    @property
    def usage(self) -> Usage:
        """Tokens of all answers together."""
        return Usage(
            prompt_tokens=sum(answer.usage.prompt_tokens for answer in self.answers),
            completion_tokens=sum(answer.usage.completion_tokens for answer in self.answers),
        )

    @property
    def reason(self) -> str:
        """Why there is no usable answer."""
        history = self.question.history
        return self.failure or f"no usable answer among {len(history)}: {'; '.join(history[-1].problems)}"


async def ask(question: QuestionT, answer_to: AnswerTo, max_retries: int) -> Asked[QuestionT]:
    """Ask until an answer is usable, at most ``1 + max_retries`` times (Appendix E).

    Raises:
        TeacherError: If no question can be answered at all.
    """
    for _ in range(1 + max_retries):
        try:
            answer = await answer_to(question)
        except RequestFailedError as error:
            refused = isinstance(error, RequestRefusedError)
            # Refused after answers, the conversation has grown too long: it ends with the answers that it has.
            return Asked(question, None, None if refused and question.history else str(error), refused)
        problems = question.find_problems(answer)
        if not problems:
            return Asked(question, answer)
        question = question.again(answer, problems)
    return Asked(question, None)


def ask_all(
    questions: Sequence[QuestionT], parameters: TeacherParameters, ledger_path: Path, api_key: str | None, unit: str
) -> list[Asked[QuestionT]]:
    """Ask the configured server, in order; what the ledger knows is not asked again.

    Args:
        questions: What to ask.
        parameters: Server, model and limits.
        ledger_path: JSONL file of answers.
        api_key: Key of the server, or ``None`` to take ``OPENAI_API_KEY``.
        unit: What a question is about: an image, a conclusion.

    Raises:
        TeacherError: If the server can answer nothing at all.
        DryRunFinished: In a dry run, if the ledger lacks an answer.
        ImageError: If an image is missing or broken.
    """
    if not parameters.dry_run:
        work = partial(ask, max_retries=parameters.max_retries)
        return run(ask_server(questions, work, parameters, ledger_path, api_key, unit))
    lookup = dry_run.ledger_lookup(ledger_path, parameters)
    followed = [dry_run.follow(question, lookup, parameters.max_retries) for question in questions]
    reached = [question for question, _, is_open in followed if is_open]
    if reached:
        dry_run.finish(reached, len(questions), unit, parameters)
    return [Asked(question, usable) for question, usable, _ in followed]
