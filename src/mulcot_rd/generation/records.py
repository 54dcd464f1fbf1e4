"""Answers of a model, and the log that keeps them across interruptions."""

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from mulcot_rd.files import write_text
from mulcot_rd.fingerprint import differences, fingerprint
from mulcot_rd.generation.parameters import GenerationParameters
from mulcot_rd.numbers import percent_text
from mulcot_rd.prompts import Task
from mulcot_rd.reasoning import parse
from mulcot_rd.schema import PostContent, Reasoning

logger = logging.getLogger(__name__)


class Answer(NamedTuple):
    """A model's answer to one prompt of a post.

    Attributes:
        task: Which prompt.
        post_id: The post.
        attempt: Number of the answer, from 1, which is greedy; of the answer that is kept, how many were given.
        text: What the model wrote.
        finished: Whether the model ended its turn before the length limit; a cut reasoning is never complete.
            ``None`` while the model is still writing.
        refusal: Why a server gave no answer, where it gave none.
    """

    task: Task
    post_id: str
    attempt: int
    text: str
    finished: bool | None
    refusal: str | None = None

    @property
    def reasoning(self) -> Reasoning:
        """The answer as read by the response format."""
        return parse(self.text)

    @property
    def shortcomings(self) -> int:
        """What is missing of a usable answer: a readable label; of a reasoning also its sections and its end."""
        reasoning = self.reasoning
        if self.task == "label":
            return int(reasoning.prediction is None)
        return len(reasoning.problems) + int(not self.finished)

    @property
    def is_cut(self) -> bool:
        """Whether the model wrote on to the length limit."""
        return self.finished is False and self.refusal is None

    def is_last(self, parameters: GenerationParameters) -> bool:
        """Whether nothing more is asked after this answer: it is usable, or there were enough retries (Appendix E).

        Ours: a retry of a reasoning that is cut is the last. A model that does not end when it samples will hardly end
        at the third try, and each such answer takes the longest time. A server that refused a prompt would refuse it
        again. Samples are asked for in any case.
        """
        endless = self.task == "reasoning" and self.is_cut and self.attempt > 1
        hopeless = endless or self.refusal is not None
        enough = self.shortcomings == 0 or hopeless or self.attempt > parameters.max_retries
        return self.attempt > parameters.samples and enough


def kept_answers(
    answers: Iterable[Answer], posts: Sequence[PostContent], tasks: Sequence[Task]
) -> dict[Task, list[Answer]]:
    """The answer that counts, by task for each post: the first usable one to its prompt, else the least incomplete one.

    Its ``attempt`` is the number of answers that were given.
    """
    given = by_prompt(answers)
    return {task: [_best(given[task, post.id]) for post in posts] for task in tasks}


def by_prompt(answers: Iterable[Answer]) -> dict[tuple[Task, str], list[Answer]]:
    """The answers to each prompt, by task and post id."""
    given: dict[tuple[Task, str], list[Answer]] = defaultdict(list)
    for answer in answers:
        given[answer.task, answer.post_id].append(answer)
    return given


def _best(given: Sequence[Answer]) -> Answer:
    return min(given, key=lambda answer: answer.shortcomings)._replace(attempt=len(given))


def log_cut(name: str, answers: Sequence[Answer], limit: int) -> bool:
    """Say in the log how many reasonings are cut; whether any is.

    Args:
        name: Names the work.
        answers: All answers so far.
        limit: Longest reasoning answer, in tokens.
    """
    cut = [answer.is_cut for answer in answers if answer.task == "reasoning"]
    if any(cut):
        logger.info(
            "%s: %d of the first %d reasoning answers (%s percent) went on to max_new_tokens=%d, as those of a little "
            "trained model do; a retry that does is the last",
            name, sum(cut), len(cut), percent_text(sum(cut) / len(cut)), limit,
        )  # fmt: skip
    return any(cut)


class AnswerLog:
    """Answers on disk, a JSONL file for each unit of work; what is there is not asked for again.

    A file appears whole. Each line holds a hash of itself: one that was damaged counts as not answered.

    Args:
        folder: Where the logs of one kind of work lie, one for each fingerprint: none replaces another.
        made_from: What the answers depend on, by name: model, prompts, parameters. It is written beside them.

    Attributes:
        folder: Where the answers of this model, prompts and parameters are.
    """

    def __init__(self, folder: Path, made_from: Mapping[str, Any]) -> None:
        digest = fingerprint(made_from)
        self.folder = folder / digest[:12]
        self._answers: dict[tuple[Task, str, int], Answer] = {}
        # It holds what the answers were made from; earlier versions kept all answers behind that.
        head = self.folder.with_suffix(".jsonl")
        if _first_row(head) is None:
            _log_differences(folder, made_from)
            write_text(head, json.dumps({"fingerprint": digest, "made_from": made_from}) + "\n")
        for path in [head, *sorted(self.folder.glob("unit-*.jsonl"))]:
            lines = [line for line in path.read_bytes().split(b"\n") if line]
            rows = [row for row in map(_intact, lines) if row is not None]
            if torn := len(lines) - len(rows):
                logger.warning("%s: %d lines are torn or damaged, their posts are asked again", path, torn)
            self._take(Answer(**row) for row in rows if "task" in row)

    def unit(
        self, posts: Sequence[PostContent], tasks: Sequence[Task], parameters: GenerationParameters
    ) -> list[Answer] | None:
        """All answers to these prompts of a unit's posts; ``None`` where any of them is missing."""
        answers = []
        for key in ((task, post.id) for post in posts for task in tasks):
            for attempt in count(1):
                answer = self._answers.get((*key, attempt))
                if answer is None:
                    return None
                answers.append(answer)
                if answer.is_last(parameters):
                    break
        return answers

    def add(self, answers: Sequence[Answer]) -> None:
        """Keep the answers of a unit."""
        name = fingerprint(sorted({answer[:2] for answer in answers}))[:12]
        rows = [answer._asdict() for answer in answers]
        lines = [json.dumps({**row, "hash": fingerprint(row)}, ensure_ascii=False) + "\n" for row in rows]
        write_text(self.folder / f"unit-{name}.jsonl", "".join(lines))
        self._take(answers)

    def _take(self, answers: Iterable[Answer]) -> None:
        self._answers.update((answer[:3], answer) for answer in answers)


def _intact(line: bytes) -> dict[str, Any] | None:
    """The row of a line, or ``None`` where it is not what was written; earlier versions wrote no hash."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    wanted = row.pop("hash", None)
    return row if wanted in (None, fingerprint(row)) else None


def _first_row(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    with path.open("rb") as stream:
        return _intact(stream.readline())


def _log_differences(folder: Path, made_from: Mapping[str, Any]) -> None:
    """Say why answers are asked for though others are there: against the newest of them."""
    others = sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
    before = _first_row(others[-1]) if others else None
    # Earlier versions wrote the fingerprint alone.
    if before is not None and "made_from" in before:
        changed = "; ".join(differences(before["made_from"], made_from))
        logger.info("answers are asked for anew; those in %s stay, made from other things: %s", others[-1], changed)
