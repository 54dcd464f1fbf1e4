"""Questions that want a short text, captions and verdicts: asked, and asked again where the answer is unusable."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

from mulcot_rd.teacher import dry_run
from mulcot_rd.teacher.errors import RequestFailedError
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.provider import Answer, Message, Provider, Unusable
from mulcot_rd.teacher.running import run, work_through
from mulcot_rd.teacher.server import open_server


@dataclass(frozen=True)
class ShortQuestion:
    """A :class:`~mulcot_rd.teacher.provider.Question` that wants a short text.

    Attributes:
        role: What the answer is for.
        subject: A post's id, or an image's name.
        prompt: The text of the first turn.
        find_problems: What makes an answer unusable; empty for a usable one.
        retry_prompt: The text of the turn after an unusable answer, from its problems.
        image: Path of the image that goes along, or ``None``.
        first_tokens: Longest first answer in tokens, or ``None`` for ``teacher.max_tokens``.
        history: The unusable answers so far, oldest first.
    """

    role: Literal["caption", "judge"]
    subject: str
    prompt: str
    find_problems: Callable[[Answer], list[str]]
    retry_prompt: Callable[[list[str]], str]
    image: str | None = None
    first_tokens: int | None = None
    history: tuple[Unusable, ...] = ()

    stage: None = None
    schema: None = None

    @property
    def max_tokens(self) -> int | None:
        """Longest answer in tokens; a model that needs more, to think, gets it from the second answer on."""
        return None if self.history else self.first_tokens

    @property
    def attempt(self) -> int:
        """Which answer is asked for, from 1."""
        return len(self.history) + 1

    @property
    def messages(self) -> list[Message]:
        """The prompt, then every unusable answer with what follows it."""
        turns = [Message("user", self.prompt)]
        for earlier in self.history:
            turns.append(Message("assistant", earlier.answer.text))
            turns.append(Message("user", self.retry_prompt(list(earlier.problems))))
        return turns

    def again(self, answer: Answer, problems: Sequence[str]) -> Self:
        """The question after an unusable answer."""
        return replace(self, history=(*self.history, Unusable(answer, tuple(problems))))


@dataclass(frozen=True)
class Asked:
    """What asking came to.

    Attributes:
        question: The last one, with the unusable answers before it.
        usable: Its usable answer, or ``None``.
        failure: Why the last request got no answer, or ``None``.
    """

    question: ShortQuestion
    usable: Answer | None
    failure: str | None = None

    @property
    def answers(self) -> list[Answer]:
        """All answers, the usable one last."""
        unusable = [earlier.answer for earlier in self.question.history]
        return unusable if self.usable is None else [*unusable, self.usable]

    @property
    def reason(self) -> str:
        """Why there is no usable answer."""
        history = self.question.history
        return self.failure or f"no usable answer among {len(history)}: {'; '.join(history[-1].problems)}"


def ask_all(
    questions: Sequence[ShortQuestion], parameters: TeacherParameters, ledger_path: Path, api_key: str | None, unit: str
) -> list[Asked]:
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
        return run(_ask_server(questions, parameters, ledger_path, api_key, unit))
    lookup, retries = dry_run.ledger_lookup(ledger_path, parameters), parameters.max_retries
    followed = [dry_run.follow(each, lookup, lambda q, answer: q.find_problems(answer), retries) for each in questions]
    reached = [question for question, _, is_open in followed if is_open]
    if reached:
        dry_run.finish(reached, len(questions), unit, parameters)
    return [Asked(question, usable) for question, usable, _ in followed]


async def ask(question: ShortQuestion, provider: Provider[ShortQuestion], max_retries: int) -> Asked:
    """Ask until an answer is usable, at most ``1 + max_retries`` times.

    Raises:
        TeacherError: If the provider can answer nothing at all.
    """
    for _ in range(1 + max_retries):
        try:
            answer = await provider.answer(question)
        except RequestFailedError as error:
            return Asked(question, None, str(error))
        problems = question.find_problems(answer)
        if not problems:
            return Asked(question, answer)
        question = question.again(answer, problems)
    return Asked(question, None)


async def _ask_server(
    questions: Sequence[ShortQuestion], parameters: TeacherParameters, ledger_path: Path, api_key: str | None, unit: str
) -> list[Asked]:
    server = open_server(parameters, ledger_path, api_key)
    return await work_through(
        questions,
        lambda question: ask(question, server.provider, parameters.max_retries),
        server.provider,
        workers=len(questions) if parameters.mode == "batch" else parameters.max_concurrency,
        unit=unit,
        status=server.status,
    )
