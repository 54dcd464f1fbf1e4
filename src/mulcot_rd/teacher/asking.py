"""Asking a question, and asking again where the answer is unusable: the adaptive retry controller (Appendix E)."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from mulcot_rd.schema import Usage
from mulcot_rd.teacher.errors import RequestFailedError, RequestRefusedError
from mulcot_rd.teacher.questions import Answer, AnswerTo, Question

QuestionT = TypeVar("QuestionT", bound=Question)


@dataclass(frozen=True)
class Asked(Generic[QuestionT]):
    """What asking came to.

    Attributes:
        question: The last one, with the unusable answers before it.
        usable: Its usable answer, or ``None``.
        failure: Why the last question got no answer at all, or ``None``.
    """

    question: QuestionT
    usable: Answer | None
    failure: RequestFailedError | None = None

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
        if self.failure is not None:
            return str(self.failure)
        return f"no usable answer among {len(history)}: {'; '.join(history[-1].problems)}"


async def ask(question: QuestionT, answer_to: AnswerTo, max_retries: int) -> Asked[QuestionT]:
    """Ask until an answer is usable, at most ``1 + max_retries`` times (Appendix E).

    Raises:
        TeacherError: If no question can be answered at all.
    """
    for _ in range(1 + max_retries):
        try:
            answer = await answer_to(question)
        except RequestFailedError as error:
            # Refused after answers, the conversation has grown too long: it ends with the answers that it has.
            too_long = isinstance(error, RequestRefusedError) and question.history
            return Asked(question, None, None if too_long else error)
        problems = question.find_problems(answer)
        if not problems:
            return Asked(question, answer)
        question = question.again(answer, problems)
    return Asked(question, None)
