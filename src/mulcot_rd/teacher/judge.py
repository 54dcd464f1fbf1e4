"""A language model as judge: which label a reasoning's conclusion comes to, asked without telling the label given.

The judge is the configured teacher's server; its answers are kept in the same ledger and spend from the same budget.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from mulcot_rd.prompts import judge_prompt
from mulcot_rd.reasoning import without_thoughts
from mulcot_rd.schema import Record, Sentiment
from mulcot_rd.teacher.errors import TeacherError
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.questions import Answer, Question, Unusable, ask
from mulcot_rd.teacher.server import ask_server

logger = logging.getLogger(__name__)

UNCLEAR: Final = "unclear"
JudgedLabel = Sentiment | Literal["unclear"]
# A word and the quotes, stars or full stop that a chatty model puts around it.
_ANSWER_TOKENS = 16
_WORD = re.compile(r"\b(positive|neutral|negative|unclear)\b", re.IGNORECASE)


class JudgeParameters(Record):
    """How the qualities of reasonings are scored, and how many conclusions a judge reads."""

    posts: int = Field(0, ge=0, description="Test posts whose conclusions are judged, the first so many; 0 asks nobody")
    teacher: TeacherParameters = Field(TeacherParameters(), description="The server that judges: the teacher's")
    seed: int = Field(42, ge=0, lt=2**31, description="Seed of the bootstrap intervals")


@dataclass(frozen=True)
class Conclusion(Question):
    """The question about one conclusion: the id of its post, that post's aspect, and its words."""

    subject: str
    aspect: str | None
    text: str
    history: tuple[Unusable, ...] = ()

    role = "judge"
    image = None

    @property
    def prompt(self) -> str:
        """The prompt; it does not tell the label."""
        return judge_prompt(self.text, self.aspect)

    @property
    def max_tokens(self) -> int | None:
        """Room for a word; a model that needs more, to think, gets the teacher's length from the second answer on."""
        return None if self.history else _ANSWER_TOKENS

    def retry_prompt(self, problems: list[str]) -> str:
        """The same words after every unusable answer."""
        return "Answer with exactly one of these words: positive, neutral, negative, unclear."

    def find_problems(self, answer: Answer) -> list[str]:
        """What makes an answer no verdict."""
        # What is cut off may be a thought.
        usable = answer.finish_reason != "length" and read_judged_label(answer.text) is not None
        return [] if usable else ["it names no label, or several"]


def read_judged_label(text: str) -> JudgedLabel | None:
    """The one label (or "unclear") that an answer names; ``None`` where it names none or several."""
    named = {word.lower() for word in _WORD.findall(without_thoughts(text))}
    if len(named) != 1:
        return None
    word = named.pop()
    return UNCLEAR if word == UNCLEAR else Sentiment(word)


def judge_conclusions(
    conclusions: Sequence[Conclusion], parameters: TeacherParameters, ledger_path: Path, api_key: str | None = None
) -> list[JudgedLabel | None]:
    """Ask the teacher's server which label each conclusion comes to; ``None`` where it gave no usable answer.

    An empty text is unclear and not asked about.

    Raises:
        TeacherError: If the teacher is no server, or can answer nothing at all.
        DryRunFinished: In a dry run that would have to ask.
    """
    if parameters.writer != "openai":
        raise TeacherError("judge.posts needs a server as teacher: set teacher.provider=openai, or judge.posts=0")
    worded = [conclusion for conclusion in conclusions if conclusion.text.strip()]
    work = partial(ask, max_retries=parameters.max_retries)
    asked = ask_server(worded, work, parameters, ledger_path, api_key, "conclusion")
    for each in asked:
        if each.usable is None:
            logger.warning("the conclusion about %s is not judged: %s", each.question.subject, each.reason)
    verdicts = iter(None if each.usable is None else read_judged_label(each.usable.text) for each in asked)
    return [next(verdicts) if conclusion.text.strip() else UNCLEAR for conclusion in conclusions]
