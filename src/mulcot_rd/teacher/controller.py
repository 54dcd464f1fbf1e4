"""The two stages of the multimodal CoT enhancement.

Stage one asks without the label (Eq. 2) and keeps right answers (Eq. 3); stage two tells the label and asks
for the reasoning that leads there (Eq. 4).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from mulcot_rd import reasoning as response_format
from mulcot_rd.prompts import Send
from mulcot_rd.schema import Post, Record, Sentiment, TeacherRecord
from mulcot_rd.teacher.errors import RequestRefusedError
from mulcot_rd.teacher.questions import AnswerTo, Asked, PostRole, Request, ask


class RawAnswer(Record):
    """An unusable answer as it came, with what was wrong with it."""

    stage: Literal[1, 2]
    attempt: int
    text: str
    model: str
    finish_reason: str
    problems: tuple[str, ...]


class QuarantinedPost(Record):
    """A post that neither stage annotated: one row of ``quarantine.jsonl``."""

    id: str
    label: Sentiment
    reason: str
    answers: tuple[RawAnswer, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of one post: a record, a quarantined post, or (a reference alone) neither."""

    post: Post
    stages: tuple[Asked[Request], ...]
    record: TeacherRecord | None
    quarantined: QuarantinedPost | None

    @cached_property
    def first(self) -> TeacherRecord | None:
        """Stage one's usable reasoning, whatever label it came to, or ``None``."""
        return _record(self.stages[0])


async def annotate_post(
    post: Post, role: PostRole, answer_to: AnswerTo, max_retries: int, send: Send = "image"
) -> Outcome:
    """Both stages for a training post: stage one, and stage two where it was wrong or never usable.

    A reference, of the test split, is never told the label: it has stage one alone. A request that the server refuses
    for good counts as no usable answer. A lost one sends its post to quarantine, and the next run asks stage one again:
    whether the teacher would have been right is not known.
    """
    first = await ask(Request(post, None, role, (), send), answer_to, max_retries)
    record = _record(first)
    if role == "reference" or (record is not None and record.prediction == post.label):
        return Outcome(post, (first,), record, None)
    if first.failure is not None and not isinstance(first.failure, RequestRefusedError):
        return Outcome(post, (first,), None, _quarantine(post, first))
    second = await ask(Request(post, post.label, role, (), send), answer_to, max_retries)
    record = _record(second)
    return Outcome(post, (first, second), record, _quarantine(post, first, second) if record is None else None)


def _record(stage: Asked[Request]) -> TeacherRecord | None:
    """The row of a stage's usable answer, or ``None`` where it gave none."""
    if stage.usable is None:
        return None
    post = stage.question.post
    return TeacherRecord(
        **response_format.parse(stage.usable.text).model_dump(),
        id=post.id,
        stage=stage.question.stage,
        label=post.label,
        attempts=len(stage.answers),
        model=stage.usable.model,
        usage=stage.usage,
    )


def _quarantine(post: Post, *stages: Asked[Request]) -> QuarantinedPost:
    answers = tuple(
        RawAnswer(
            stage=stage.question.stage,
            attempt=attempt,
            text=unusable.answer.text,
            model=unusable.answer.model,
            finish_reason=unusable.answer.finish_reason,
            problems=unusable.problems,
        )
        for stage in stages
        for attempt, unusable in enumerate(stage.question.history, start=1)
    )
    return QuarantinedPost(id=post.id, label=post.label, reason=stages[-1].reason, answers=answers)
