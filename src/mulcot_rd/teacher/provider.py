"""What every teacher speaks: a question goes in, one answer comes out.

Providers are put around each other: the ledger around the API client, an import around either. They see a
:class:`Question` and nothing of what it is for; the retry controller sees one :class:`Provider` and nothing of
what stands behind it. Questions about posts are :class:`Request`; the offline annotator and the importer
answer those alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol, Self, TypeVar

from pydantic import Field

from mulcot_rd import reasoning as response_format
from mulcot_rd.prompts import Send, retry_prompt, teacher_prompt
from mulcot_rd.schema import Post, Record, Sentiment, Usage

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


class Question(Protocol):
    """What a provider is asked. Equal messages and images are the same question, whoever asks."""

    @property
    def subject(self) -> str:
        """What the question is about: a post's id, or an image's name."""
        ...

    @property
    def role(self) -> Role:
        """What the answer is for."""
        ...

    @property
    def stage(self) -> int | None:
        """Stage of the annotation, or ``None`` for questions that are no annotation."""
        ...

    @property
    def attempt(self) -> int:
        """Which answer to this question is asked for, from 1."""
        ...

    @property
    def messages(self) -> list[Message]:
        """The conversation so far; the last turn is the user's."""
        ...

    @property
    def image(self) -> str | None:
        """Path of the image that goes with the first turn, or ``None`` for text alone."""
        ...

    @property
    def max_tokens(self) -> int | None:
        """Longest answer in tokens, or ``None`` for ``teacher.max_tokens``."""
        ...

    @property
    def schema(self) -> dict[str, Any] | None:
        """JSON schema of the wanted answer, for servers that can hold a model to one; ``None`` for free text."""
        ...

    def again(self, answer: Answer, problems: Sequence[str]) -> Self:
        """The question after an unusable answer."""
        ...


@dataclass(frozen=True)
class Request:
    """A question to a teacher about one post.

    Attributes:
        post: The post; its label is never shown to the teacher except through ``told_label``.
        told_label: ``None`` in stage one (Eq. 2), the gold label in stage two (Eq. 4).
        role: Whether the answer is to become training data or a reference of the test split.
        history: The unusable answers of this stage so far (Appendix E), oldest first.
        send: What the teacher gets to know of the post's image.
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

    @property
    def attempt(self) -> int:
        """Which answer of this stage is asked for, from 1."""
        return len(self.history) + 1

    def again(self, answer: Answer, problems: Sequence[str]) -> Self:
        """The request after an unusable answer (Appendix E)."""
        return replace(self, history=(*self.history, Unusable(answer, tuple(problems))))

    @cached_property
    def messages(self) -> list[Message]:
        """The conversation: prompt, then every unusable answer with what was wrong with it."""
        turns = [Message("user", teacher_prompt(self.post, self.told_label, self.send))]
        for earlier in self.history:
            turns.append(Message("assistant", earlier.answer.text))
            turns.append(Message("user", retry_prompt(list(earlier.problems))))
        return turns

    @property
    def image(self) -> str | None:
        """The post's image where it is sent."""
        return self.post.image if self.send == "image" else None

    @property
    def max_tokens(self) -> None:
        """An annotation's answers are as long as ``teacher.max_tokens`` allows."""
        return

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The four sections and the label; in stage two the told label alone."""
        return response_format.json_schema(self.told_label)


QuestionT_contra = TypeVar("QuestionT_contra", contravariant=True, bound=Question)


class Provider(Protocol[QuestionT_contra]):
    """A teacher."""

    @property
    def name(self) -> str:
        """What the teacher is called in summaries."""
        ...

    async def answer(self, question: QuestionT_contra) -> Answer:
        """Answer one question.

        Raises:
            RequestFailedError: If this question can't be answered.
            TeacherError: If no question can.
        """
        ...

    async def drain(self) -> None:
        """Ask a server nothing more, and wait for the answers that are on their way; the run is being stopped."""
        ...

    async def close(self) -> None:
        """Release connections and files."""
        ...
