"""The dry run: what a server would still be asked, counted and priced; nothing is sent.

A job goes on with the answers that exist, to its first question without one. What comes after it, retries and stage
two, is counted by assumptions that the table names.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn, TypeVar

from mulcot_rd.progress import progress
from mulcot_rd.schema import Reasoning
from mulcot_rd.teacher.errors import DryRunFinished, RequestFailedError
from mulcot_rd.teacher.ledger import Ledger, question_key
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.prices import CHARACTERS_PER_TOKEN, Pricing
from mulcot_rd.teacher.questions import Answer, AnswerTo, Question, Request

logger = logging.getLogger(__name__)

T = TypeVar("T")
JobT = TypeVar("JobT")
# Requests, prompt tokens, answer tokens.
Count = tuple[float, float, float]

# Appendix E: about 79 percent are valid within two answers; the share that is unusable twice is the square of this.
UNUSABLE_SHARE = math.sqrt(1 - 0.79)
# Mean of the teachers' zero-shot accuracies in Tables 3 and 4, which go from 0.494 to 0.767.
STAGE_ONE_ACCURACY = 0.6465
# Mean over the 800 reasonings of Qwen2.5-VL-72B that the authors released, by o200k_base; nine in ten have 192 to 319.
ANSWER_TOKENS = 250


async def follow(
    jobs: Sequence[JobT],
    work: Callable[[JobT, AnswerTo], Awaitable[T]],
    parameters: TeacherParameters,
    ledger_path: Path,
    unit: str,
) -> tuple[list[T], list[Question]]:
    """Do all jobs with the ledger's answers alone, as :func:`~mulcot_rd.teacher.server.ask_server` in a dry run.

    Returns:
        The results, and the question of each job that needs a further answer. An empty ledger opens no image.
    """
    answers = Ledger(ledger_path).answers
    reached: list[Question] = []

    async def answer(question: Question) -> Answer:
        known = answers.get(question_key(question, parameters)) if answers else None
        if known is None:
            reached.append(question)
            raise RequestFailedError("a dry run asks nothing")
        return known

    return [await work(job, answer) for job in progress(jobs, desc="dry run", unit=unit)], reached


def finish(questions: Sequence[Question], total: int, unit: str, parameters: TeacherParameters) -> NoReturn:
    """Print what the open questions come to, equal ones once; ``total`` counts posts, images or conclusions.

    Raises:
        DryRunFinished: Always.
    """
    said = f"dry run: {total} {unit}s for {parameters.model}, {total - len(questions)} of them need no request"
    distinct = {question_key(question, parameters): (question, 1.0) for question in questions}
    shown = estimate([*distinct.values()], parameters).lines if distinct else []
    logger.info("%s", "\n".join([said, *shown]))
    raise DryRunFinished(f"the dry run asked nothing about {unit}s; set teacher.dry_run=false to ask")


@dataclass(frozen=True)
class Estimate:
    """What open questions come to.

    Attributes:
        requests: As expected, or where that is not known, at least.
        usd: The same in US dollars; ``None`` without a price.
        lines: All numbers as a table, and the assumptions.
    """

    requests: float
    usd: float | None
    lines: list[str]


def estimate(questions: Sequence[tuple[Question, float]], parameters: TeacherParameters) -> Estimate:
    """Requests, tokens and US dollars of open questions: at least, at most, and of requests about posts, as expected.

    Each question counts as often as the number beside it says.
    """
    pricing = Pricing(parameters)
    counts = {"least": _count(questions, pricing, 0, 1)}
    if isinstance(questions[0][0], Request):
        counts["expected"] = _count(questions, pricing, UNUSABLE_SHARE, STAGE_ONE_ACCURACY)
    counts["most"] = _count(questions, pricing, 1, 0)
    remarks = [
        "least: every answer is usable and right; most: every answer is unusable and as long as teacher.max_tokens "
        "allows, and every byte of a prompt is a token; repeats after transport faults are not counted",
        f"otherwise an answer has {ANSWER_TOKENS} tokens, or its limit (mean of the authors' released reasonings), and "
        f"a prompt token {CHARACTERS_PER_TOKEN} characters (measured; nine prompts in ten 4.40 to 4.73)",
    ]
    if "expected" in counts:
        remarks.append(
            f"expected: {UNUSABLE_SHARE:.0%} of answers are unusable (79% valid within two answers, Appendix E), "
            f"{STAGE_ONE_ACCURACY:.0%} of stage one is right (mean of the teachers in Tables 3 and 4; 49 to 77%)"
        )
    if any(question.image is not None for question, _ in questions) and pricing.price.images is None:
        remarks.append(f"images are not counted: teacher.prices does not say how {parameters.model} counts them")
    if pricing.priced and pricing.price.date is not None:
        remarks.append(f"the price was looked up {pricing.price.date}: check it before a large run")
    usd = {name: pricing.usd(prompt, answer) for name, (_, prompt, answer) in counts.items()}
    rows: list[tuple[str, ...]] = [("", "requests", "prompt tokens", "answer tokens", "cost in USD")]
    for name, count in counts.items():
        cost = usd[name]
        rows.append((name, *(f"{number:,.0f}" for number in count), "no price" if cost is None else f"{cost:,.2f}"))
    lines = ["  " + name.ljust(8) + "".join(cell.rjust(16) for cell in cells) for name, *cells in rows]
    likely = "expected" if "expected" in counts else "least"
    return Estimate(counts[likely][0], usd[likely], [*lines, *(f"  - {remark}" for remark in remarks)])


def _count(questions: Sequence[tuple[Question, float]], pricing: Pricing, unusable: float, accuracy: float) -> Count:
    """Requests, prompt and answer tokens if these shares of answers are unusable, and of usable ones right.

    If all answers are unusable, prompts and answers are as long as they may be.
    """
    most = unusable == 1
    prompt_tokens_of = pricing.most_prompt_tokens if most else pricing.prompt_tokens
    length = pricing.parameters.max_tokens if most else min(ANSWER_TOKENS, pricing.parameters.max_tokens)
    # What an unusable answer and its problems add to the next prompt; the bound counts a byte as a token.
    text = "x" * round(length if most else length * CHARACTERS_PER_TOKEN)
    first = questions[0][0]
    carried = prompt_tokens_of(first.again(Answer(text=text, model=""), Reasoning().problems)) - prompt_tokens_of(first)
    requests = prompt_tokens = answer_tokens = 0.0
    stages = list(questions)
    while stages:
        question, share = stages.pop()
        base, still_open = prompt_tokens_of(question), share
        for retry in range(2 + pricing.parameters.max_retries - question.attempt):
            requests += still_open
            # Each retry carries all before it.
            prompt_tokens += still_open * (base + retry * carried)
            answer_tokens += still_open * (length if retry else min(length, question.max_tokens or length))
            still_open *= unusable
        if isinstance(question, Request) and question.role == "reasoning" and question.stage == 1:
            told = replace(question, told_label=question.post.label, history=())
            stages.append((told, share - (share - still_open) * accuracy))
    return requests, prompt_tokens, answer_tokens
