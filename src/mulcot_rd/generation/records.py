"""Answers of a model, and the log that keeps them across interruptions."""

import json
import logging
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from mulcot_rd.files import write_text
from mulcot_rd.fingerprint import differences, fingerprint
from mulcot_rd.prompts import Task
from mulcot_rd.reasoning import parse
from mulcot_rd.schema import Post, Reasoning

logger = logging.getLogger(__name__)


class Answer(NamedTuple):
    """A model's answer to one prompt of a post.

    Attributes:
        task: Which prompt.
        post_id: The post.
        attempt: Number of the answer, from 1, which is greedy; of the answer that is kept, how many were given.
        text: What the model wrote.
        finished: Whether the model ended its turn before the length limit; a cut reasoning is never complete.
    """

    task: Task
    post_id: str
    attempt: int
    text: str
    finished: bool

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

    def is_last(self, max_retries: int) -> bool:
        """Whether nothing more is asked after this answer (Appendix E)."""
        return self.shortcomings == 0 or self.attempt > max_retries


def best_answer(given: Sequence[Answer]) -> Answer:
    """The first usable answer to a prompt, else the least incomplete one; its ``attempt`` is the number given."""
    return min(given, key=lambda answer: answer.shortcomings)._replace(attempt=len(given))


class AnswerLog:
    """Append-only JSONL of answers; what is in it is not asked for again.

    Each line holds a hash of itself: one that was torn or damaged counts as not answered, and is taken out.

    Args:
        folder: Where the logs of one kind of work lie, a file for each fingerprint: none replaces another.
        made_from: What the answers depend on, by name: model, prompts, parameters. The first line holds it.
    """

    def __init__(self, folder: Path, made_from: Mapping[str, Any]) -> None:
        digest = fingerprint(made_from)
        self.path = folder / f"{digest[:12]}.jsonl"
        written: list[bytes] = []
        if self.path.exists():
            written = [line for line in self.path.read_bytes().split(b"\n")[1:] if line]
        else:
            _log_differences(folder, made_from)
        answers = [Answer(**row) for line in written if (row := _intact(line)) is not None]
        if len(answers) < len(written):
            torn = len(written) - len(answers)
            logger.warning("%s: %d lines are torn or damaged, their posts are asked again", self.path, torn)
        self._answers = {answer[:3]: answer for answer in answers}
        header = json.dumps({"fingerprint": digest, "made_from": made_from}) + "\n"
        write_text(self.path, header + "".join(map(_line, answers)))

    @property
    def folder(self) -> Path:
        """Where else answers of this model, prompts and parameters may be kept."""
        return self.path.with_suffix("")

    def group(self, posts: Sequence[Post], tasks: Sequence[Task], max_retries: int) -> list[Answer] | None:
        """All answers to the prompts of a group; ``None`` where any of them is missing."""
        answers = []
        for key in ((task, post.id) for post in posts for task in tasks):
            for attempt in count(1):
                answer = self._answers.get((*key, attempt))
                if answer is None:
                    return None
                answers.append(answer)
                if answer.is_last(max_retries):
                    break
        return answers

    def add(self, answers: Sequence[Answer]) -> None:
        """Append answers; one that is there already is not written twice."""
        new = {answer[:3]: answer for answer in answers if answer[:3] not in self._answers}
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write("".join(map(_line, new.values())))
        self._answers.update(new)


def _line(answer: Answer) -> str:
    row = answer._asdict()
    return json.dumps({**row, "hash": fingerprint(row)}, ensure_ascii=False) + "\n"


def _intact(line: bytes) -> dict[str, Any] | None:
    """The row of a line, or ``None`` where it is not what was written; earlier versions wrote no hash."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    wanted = row.pop("hash", None)
    return row if wanted in (None, fingerprint(row)) else None


def _log_differences(folder: Path, made_from: Mapping[str, Any]) -> None:
    """Say why answers are asked for though others are there: against the newest of them."""
    others = sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
    if not others:
        return
    with others[-1].open("rb") as stream:
        before = _intact(stream.readline())
    # Earlier versions wrote the fingerprint alone.
    if before is not None and "made_from" in before:
        changed = differences(before["made_from"], made_from)
        logger.info(
            "answers are asked for anew; those in %s stay, made from other things: %s", others[-1], "; ".join(changed)
        )
