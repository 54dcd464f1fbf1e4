"""A question goes to a teacher, one answer comes back; where it is unusable, the question goes again (Appendix E).

Ledger, budget and client see a :class:`Question` and nothing of what it is for. Questions about posts are
:class:`Request`; rules and imports answer those alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic, Literal, Self, TypeVar, cast

from pydantic import Field

from mulcot_rd import reasoning as response_format
from mulcot_rd.prompts import Send, retry_prompt, teacher_prompt
from mulcot_rd.schema import Post, Record, Sentiment, Usage
from mulcot_rd.teacher.errors import RequestFailedError, RequestRefusedError
from mulcot_rd.teacher.leaks import find_leak

# The model declined in the API's own field, or the server withheld what it wrote.
REFUSALS = ("refusal", "content_filter")
PostRole = Literal["reasoning", "reference"]
Role = Literal["reasoning", "reference", "caption", "judge"]


class Answer(Record):
    """What a teacher answered to one question.

    ``model`` is the name that the server gave itself, ``finish_reason`` the server's own word (``stop``,
    ``length``, ``content_filter``; ``refusal`` where the model declined in the API's own field), ``latency_s`` the
    seconds from sending to the whole answer, ``cost_usd`` what the answer cost in US dollars by the price table,
    or ``None`` where the model has no price.
    """

    text: str
    model: str
    usage: Usage = Usage()
    finish_reason: str = "stop"
    latency_s: float = Field(0.0, ge=0)
    cost_usd: float | None = None


AnswerTo = Callable[[Any], Awaitable[Answer]]
QuestionT = TypeVar("QuestionT", bound="Question")


@dataclass(frozen=True)
class Unusable:
    """An earlier answer of the same stage and what made it unusable."""

    answer: Answer
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation, text alone; the question's image belongs to the first."""

    role: Literal["user", "assistant"]
    text: str


class Question(ABC):
    """What a teacher is asked. Equal messages and images are the same question, whoever asks."""

    subject: str  # a post's id, or an image's name
    role: Role  # what the answer is for
    prompt: str  # the text of the first turn
    history: tuple[Unusable, ...]  # the unusable answers so far, oldest first
    image: str | None  # path of the image that goes with the first turn; None for text alone
    stage: int | None = None  # of the annotation; None for questions that are no annotation
    max_tokens: int | None = None  # longest answer; None for teacher.max_tokens
    sampling: dict[str, float] | None = None  # request fields (temperature, top_p); None for teacher.temperature
    schema: dict[str, Any] | None = None  # of the wanted answer, for servers that hold a model to one; None: free text
    lossless: bool = False  # whether the image must arrive pixel for pixel, as PNG; else it goes as JPEG

    @abstractmethod
    def find_problems(self, answer: Answer) -> list[str]:
        """What makes an answer unusable, in words that can be sent back; empty for a usable one."""

    @abstractmethod
    def retry_prompt(self, problems: list[str]) -> str:
        """The turn that follows an unusable answer."""

    @property
    def attempt(self) -> int:
        """Which answer to this question is asked for, from 1."""
        return len(self.history) + 1

    @cached_property
    def messages(self) -> list[Message]:
        """The conversation: prompt, then every unusable answer with what was wrong with it."""
        turns = [Message("user", self.prompt)]
        for earlier in self.history:
            text = earlier.answer.text
            # Some servers refuse a conversation with an empty turn.
            turns.append(Message("assistant", text if text.strip() else "(no answer)"))
            turns.append(Message("user", self.retry_prompt(list(earlier.problems))))
        return turns

    def again(self, answer: Answer, problems: Sequence[str]) -> Self:
        """The question after an unusable answer."""
        return replace(cast(Any, self), history=(*self.history, Unusable(answer, tuple(problems))))


@dataclass(frozen=True)
class Request(Question):
    """A question to a teacher about one post, whose label the teacher sees through ``told_label`` alone.

    ``told_label`` is ``None`` in stage one (Eq. 2), the gold label in stage two (Eq. 4); ``history`` has the unusable
    answers of this stage (Appendix E); ``send`` is what the teacher gets to know of the post's image.
    """

    post: Post
    told_label: Sentiment | None
    role: PostRole
    history: tuple[Unusable, ...] = ()
    send: Send = "image"

    @property
    def subject(self) -> str:
        """The post's id."""
        return self.post.id

    @property
    def stage(self) -> Literal[1, 2]:
        """1 where the label is not told, 2 where it is."""
        return 1 if self.told_label is None else 2

    @cached_property
    def prompt(self) -> str:
        """The prompt of stage one or two."""
        return teacher_prompt(self.post, self.told_label, self.send)

    def retry_prompt(self, problems: list[str]) -> str:
        """The turn that follows an unusable answer (Appendix E)."""
        return retry_prompt(problems)

    def find_problems(self, answer: Answer) -> list[str]:
        """What makes an answer unusable; in stage two also another label than the told one, and a leak."""
        if answer.finish_reason in REFUSALS:
            return ["it declines the task, but to judge the sentiment of a post is to endorse nothing in it"]
        reasoning = response_format.parse(answer.text)
        problems = reasoning.problems
        # A cut answer may hold every key and still end in the middle of its argument.
        if answer.finish_reason == "length":
            problems.append("it was cut off at the length limit, so write shorter sections")
        if self.told_label is not None:
            if reasoning.prediction not in (None, self.told_label):
                problems.append(f'"Prediction" must be {self.told_label.value}')
            leak = find_leak(reasoning, self.post.text)
            if leak is not None:
                problems.append(f'it says "{leak}", which reveals that the sentiment was known beforehand')
        return problems

    @property
    def image(self) -> str | None:
        """The post's image where it is sent."""
        return self.post.image if self.send == "image" else None

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The four sections and the label; in stage two the told label alone."""
        return response_format.json_schema(self.told_label)


@dataclass(frozen=True)
class Asked(Generic[QuestionT]):
    """What asking came to."""

    question: QuestionT  # the last one, with the unusable answers before it
    usable: Answer | None  # its usable answer
    failure: RequestFailedError | None = None  # why the last question got no answer at all

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
