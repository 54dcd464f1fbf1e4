"""A language model as judge: which label a reasoning's conclusion comes to, asked without telling the label given.

The judge is the configured teacher's server; its answers are kept in the same ledger and spend from the same budget.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from mulcot_rd.prompts import judge_prompt
from mulcot_rd.reasoning import without_thoughts
from mulcot_rd.schema import Sentiment
from mulcot_rd.teacher.errors import DryRunFinished, RequestFailedError, TeacherError
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.provider import Answer, Message, Provider, Question
from mulcot_rd.teacher.rehearsal import bill, server_or_nobody
from mulcot_rd.teacher.running import run, work_through

logger = logging.getLogger(__name__)

UNCLEAR = "unclear"
Verdict = Sentiment | Literal["unclear"]
# A word and the quotes, stars or full stop that a chatty model puts around it.
_ANSWER_TOKENS = 16
_WORD = re.compile(r"\b(positive|neutral|negative|unclear)\b", re.IGNORECASE)
_RETRY = "Answer with exactly one of these words: positive, neutral, negative, unclear."


class JudgeParameters(BaseModel):
    """What is judged by the teacher's server after evaluation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    posts: int = Field(0, ge=0, description="Test posts whose conclusions are judged, the first so many; 0 asks nobody")


@dataclass(frozen=True)
class Conclusion:
    """A conclusion to judge: the post it is about, that post's aspect, and its words."""

    post_id: str
    aspect: str | None
    text: str


@dataclass(frozen=True)
class JudgeRequest:
    """The question about one conclusion; a :class:`~mulcot_rd.teacher.provider.Question`.

    Attributes:
        conclusion: What is judged.
        earlier: Unusable answers so far, oldest first.
    """

    conclusion: Conclusion
    earlier: tuple[Answer, ...] = ()

    role: Literal["judge"] = "judge"
    stage: None = None
    image: None = None
    schema: None = None

    @property
    def max_tokens(self) -> int | None:
        """Room for a word; a model that needs more, to think, gets the teacher's length from the second answer on."""
        return None if self.earlier else _ANSWER_TOKENS

    @property
    def subject(self) -> str:
        """The post's id."""
        return self.conclusion.post_id

    @property
    def attempt(self) -> int:
        """Which answer is asked for, from 1."""
        return len(self.earlier) + 1

    @property
    def messages(self) -> list[Message]:
        """The prompt, then every unusable answer."""
        turns = [Message("user", judge_prompt(self.conclusion.text, self.conclusion.aspect))]
        for answer in self.earlier:
            turns += [Message("assistant", answer.text), Message("user", _RETRY)]
        return turns


def read_verdict(text: str) -> Verdict | None:
    """The one label (or "unclear") that an answer names; ``None`` where it names none or several."""
    named = {word.lower() for word in _WORD.findall(without_thoughts(text))}
    if len(named) != 1:
        return None
    word = named.pop()
    return UNCLEAR if word == UNCLEAR else Sentiment(word)


def judge_conclusions(
    conclusions: Sequence[Conclusion], parameters: TeacherParameters, ledger_path: Path, api_key: str | None = None
) -> list[Verdict | None]:
    """Ask the teacher's server which label each conclusion comes to.

    Args:
        conclusions: What to judge; an empty text comes to nothing and is not asked about.
        parameters: The teacher's parameters; the provider must be a server.
        ledger_path: JSONL file of answers, the annotation's own: what was judged once is not asked again.
        api_key: Key of the server, or ``None`` to take ``OPENAI_API_KEY``.

    Returns:
        A verdict for each, in order; ``None`` where the server gave no usable answer.

    Raises:
        TeacherError: If the teacher is no server, or can answer nothing at all.
        DryRunFinished: In a dry run that would have to ask.
    """
    if parameters.writer != "openai":
        raise TeacherError("judge.posts needs a server as teacher: set teacher.provider=openai, or judge.posts=0")
    asked = [conclusion for conclusion in conclusions if conclusion.text.strip()]
    verdicts = iter(run(_judge_all(asked, parameters, ledger_path, api_key)))
    return [next(verdicts) if conclusion.text.strip() else UNCLEAR for conclusion in conclusions]


async def _judge_all(
    conclusions: Sequence[Conclusion], parameters: TeacherParameters, ledger_path: Path, api_key: str | None
) -> list[Verdict | None]:
    provider, status, nobody = server_or_nobody(parameters, ledger_path, api_key)

    async def judge_one(conclusion: Conclusion) -> Verdict | None:
        return await _judge(conclusion, provider, parameters)

    verdicts = await work_through(
        conclusions,
        judge_one,
        provider,
        workers=len(conclusions) if parameters.mode == "batch" else parameters.max_concurrency,
        unit="conclusion",
        status=status,
    )
    if nobody.asked:
        raise DryRunFinished(
            f"the judge would be asked about {len(nobody.asked)} of {len(conclusions)} conclusion(s), "
            f"{bill(nobody.asked, _ANSWER_TOKENS, parameters)}; set teacher.dry_run=false to ask"
        )
    return verdicts


async def _judge(conclusion: Conclusion, provider: Provider[Question], parameters: TeacherParameters) -> Verdict | None:
    earlier: tuple[Answer, ...] = ()
    for _ in range(1 + parameters.max_retries):
        try:
            answer = await provider.answer(JudgeRequest(conclusion, earlier))
        except RequestFailedError as error:
            if parameters.dry_run:
                return None
            logger.warning("the conclusion about %s is not judged: %s", conclusion.post_id, error)
            return None
        # What is cut off may be a thought.
        verdict = None if answer.finish_reason == "length" else read_verdict(answer.text)
        if verdict is not None:
            return verdict
        earlier = (*earlier, answer)
    return None
