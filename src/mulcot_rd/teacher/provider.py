"""What every teacher speaks: a request about one post goes in, one answer comes out.

Providers are put around each other: the ledger around the API client, an import around either. The retry
controller sees one :class:`Provider` and knows nothing of what stands behind it.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import Field

from mulcot_rd.prompts import retry_prompt, teacher_prompt
from mulcot_rd.schema import Post, Record, Sentiment, Usage

Role = Literal["reasoning", "reference"]


class Answer(Record):
    """What a teacher answered to one request.

    ``model`` is the name that the server gave itself, ``finish_reason`` the server's own word (``stop``,
    ``length``, ``content_filter``), ``latency_s`` the seconds from sending to the whole answer.
    """

    text: str
    model: str
    usage: Usage = Usage()
    finish_reason: str = "stop"
    latency_s: float = Field(0.0, ge=0)


@dataclass(frozen=True)
class Unusable:
    """An earlier answer of the same stage and what made it unusable."""

    answer: Answer
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation, text alone; the post's image belongs to the first."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True)
class Request:
    """One question to a teacher about one post.

    Attributes:
        post: The post; its label is never shown to the teacher except through ``told_label``.
        told_label: ``None`` in stage one (Eq. 2), the gold label in stage two (Eq. 4).
        role: Whether the answer is to become training data or a reference of the test split.
        history: The unusable answers of this stage so far (Appendix E), oldest first.
    """

    post: Post
    told_label: Sentiment | None
    role: Role
    history: tuple[Unusable, ...] = ()

    @property
    def stage(self) -> Literal[1, 2]:
        """1 where the label is not told, 2 where it is."""
        return 1 if self.told_label is None else 2

    @property
    def attempt(self) -> int:
        """Which answer of this stage is asked for, from 1."""
        return len(self.history) + 1

    @property
    def messages(self) -> list[Message]:
        """The conversation: prompt, then every unusable answer with what was wrong with it."""
        turns = [Message("user", teacher_prompt(self.post, self.told_label))]
        for earlier in self.history:
            turns.append(Message("assistant", earlier.answer.text))
            turns.append(Message("user", retry_prompt(list(earlier.problems))))
        return turns


class Provider(Protocol):
    """A teacher."""

    @property
    def name(self) -> str:
        """What the teacher is called in summaries."""
        ...

    async def answer(self, request: Request) -> Answer:
        """Answer one request.

        Raises:
            RequestFailedError: If this request can't be answered.
            TeacherError: If no request can.
        """
        ...

    async def close(self) -> None:
        """Release connections and files."""
        ...
