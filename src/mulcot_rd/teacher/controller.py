"""The two stages of the multimodal CoT enhancement and the adaptive retry controller around each.

Stage one asks without the label (Eq. 2) and keeps right answers (Eq. 3); stage two tells the label and asks
for the reasoning that leads there (Eq. 4). Within a stage an unusable answer is asked for again, each time
with what was wrong, at most ``max_retries`` times (Appendix E).
"""

from dataclasses import dataclass
from typing import Literal

from mulcot_rd import reasoning as response_format
from mulcot_rd.prompts import Send
from mulcot_rd.schema import Post, Reasoning, Record, Sentiment, TeacherRecord, Usage
from mulcot_rd.teacher.errors import RequestFailedError, RequestRefusedError
from mulcot_rd.teacher.leaks import find_leak
from mulcot_rd.teacher.provider import Answer, PostRole, Provider, Request, Unusable

# The model declined in the API's own field, or the server withheld what it wrote.
REFUSALS = ("refusal", "content_filter")


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
class StageResult:
    """What one stage came to for one post.

    Attributes:
        stage: 1 or 2.
        reasoning: The usable reasoning, or ``None``.
        answers: Every answer of the stage, the usable one last.
        unusable: The unusable ones among them, with their problems.
        failure: Why a request got no answer at all, or ``None``.
        refused: Whether the server refused a request for good (too long, filtered).
    """

    stage: Literal[1, 2]
    reasoning: Reasoning | None
    answers: tuple[Answer, ...]
    unusable: tuple[Unusable, ...]
    failure: str | None
    refused: bool = False

    @property
    def usage(self) -> Usage:
        """Tokens of all answers of the stage together."""
        return Usage(
            prompt_tokens=sum(answer.usage.prompt_tokens for answer in self.answers),
            completion_tokens=sum(answer.usage.completion_tokens for answer in self.answers),
        )

    def record(self, post: Post) -> TeacherRecord | None:
        """The row to keep, or ``None`` where the stage gave no usable answer."""
        if self.reasoning is None:
            return None
        return TeacherRecord(
            **self.reasoning.model_dump(),
            id=post.id,
            stage=self.stage,
            label=post.label,
            attempts=len(self.answers),
            model=self.answers[-1].model,
            usage=self.usage,
        )


@dataclass(frozen=True)
class Outcome:
    """What became of one post: a record, a quarantined post, or (a reference alone) neither."""

    post: Post
    role: PostRole
    stages: tuple[StageResult, ...]
    record: TeacherRecord | None
    quarantined: QuarantinedPost | None


async def run_stage(
    post: Post, told_label: Sentiment | None, role: PostRole, provider: Provider[Request], max_retries: int, send: Send
) -> StageResult:
    """Ask until an answer is usable, at most ``1 + max_retries`` times (Appendix E).

    Raises:
        TeacherError: If the provider can answer nothing at all.
    """
    history: tuple[Unusable, ...] = ()
    answers: tuple[Answer, ...] = ()
    stage: Literal[1, 2] = 1 if told_label is None else 2
    for _ in range(1 + max_retries):
        request = Request(post, told_label, role, history, send)
        try:
            answer = await provider.answer(request)
        except RequestRefusedError as error:
            # Refused after answers, the conversation has grown too long: the stage ends with the answers that it has.
            return StageResult(stage, None, answers, history, None if history else str(error), refused=True)
        except RequestFailedError as error:
            return StageResult(stage, None, answers, history, str(error))
        answers = (*answers, answer)
        reasoning = response_format.parse(answer.text)
        problems = find_problems(request, answer, reasoning)
        if not problems:
            return StageResult(stage, reasoning, answers, history, None)
        history = (*history, Unusable(answer, tuple(problems)))
    return StageResult(stage, None, answers, history, None)


async def annotate_training_post(
    post: Post, provider: Provider[Request], max_retries: int, send: Send = "image"
) -> Outcome:
    """Both stages for a training post: stage one, and stage two where it was wrong or never usable.

    A post whose request the server refuses for good was never answered usably either: it comes to stage two. One
    whose request got lost goes to quarantine: whether its teacher would have been right is not known, so it is not
    explained but asked again by the next run.
    """
    first = await run_stage(post, None, "reasoning", provider, max_retries, send)
    if first.reasoning is not None and first.reasoning.prediction == post.label:
        return Outcome(post, "reasoning", (first,), first.record(post), None)
    if first.failure is not None and not first.refused:
        return Outcome(post, "reasoning", (first,), None, _quarantine(post, (first,)))
    second = await run_stage(post, post.label, "reasoning", provider, max_retries, send)
    stages = (first, second)
    record = second.record(post)
    return Outcome(post, "reasoning", stages, record, None if record is not None else _quarantine(post, stages))


async def annotate_reference(
    post: Post, provider: Provider[Request], max_retries: int, send: Send = "image"
) -> Outcome:
    """Stage one alone for a post of the test split: a reference is never told the label."""
    first = await run_stage(post, None, "reference", provider, max_retries, send)
    return Outcome(post, "reference", (first,), first.record(post), None)


def find_problems(request: Request, answer: Answer, reasoning: Reasoning) -> list[str]:
    """What makes an answer unusable, in words that can be sent back; empty for a usable one.

    Besides incomplete structure, an unreadable label, a refusal and a cut answer, stage two refuses a prediction
    other than the told label and an explanation that reveals that the label was told.
    """
    if answer.finish_reason in REFUSALS:
        return ["it declines the task, but to judge the sentiment of a post is to endorse nothing in it"]
    problems = reasoning.problems
    # A cut answer may hold every key and still end in the middle of its argument.
    if answer.finish_reason == "length":
        problems.append("it was cut off at the length limit, so write shorter sections")
    if request.told_label is not None:
        if reasoning.prediction not in (None, request.told_label):
            problems.append(f'"Prediction" must be {request.told_label.value}')
        leak = find_leak(reasoning, request.post.text)
        if leak is not None:
            problems.append(f'it says "{leak}", which reveals that the sentiment was known beforehand')
    return problems


def _quarantine(post: Post, stages: tuple[StageResult, ...]) -> QuarantinedPost:
    last = stages[-1]
    if last.failure is not None:
        reason = last.failure
    else:
        reason = f"no usable answer among {len(last.answers)}: {'; '.join(last.unusable[-1].problems)}"
    answers = tuple(
        RawAnswer(
            stage=stage.stage,
            attempt=attempt,
            text=unusable.answer.text,
            model=unusable.answer.model,
            finish_reason=unusable.answer.finish_reason,
            problems=unusable.problems,
        )
        for stage in stages
        for attempt, unusable in enumerate(stage.unusable, start=1)
    )
    return QuarantinedPost(id=post.id, label=post.label, reason=reason, answers=answers)
