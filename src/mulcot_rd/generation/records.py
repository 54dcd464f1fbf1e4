"""Answers of a model, and the log that keeps them across interruptions."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from mulcot_rd.files import write_text
from mulcot_rd.fingerprint import differences, fingerprint
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


class PartialAnswer(NamedTuple):
    """What a model has written so far of an :class:`Answer`."""

    task: Task
    post_id: str
    attempt: int
    text: str


def best_answer(given: Sequence[Answer]) -> Answer:
    """The first usable answer to a prompt, else the least incomplete one; its ``attempt`` is the number given."""
    return min(given, key=lambda answer: answer.shortcomings)._replace(attempt=len(given))


class AnswerLog:
    """Answers on disk, a JSONL file for each unit of work; what is there is not asked for again.

    A file appears whole. Each line holds a hash of itself: one that was damaged counts as not answered.

    Args:
        folder: Where the logs of one kind of work lie, one for each fingerprint: none replaces another.
        made_from: What the answers depend on, by name: model, prompts, parameters. It is written beside them.
    """

    def __init__(self, folder: Path, made_from: Mapping[str, Any]) -> None:
        digest = fingerprint(made_from)
        # Earlier versions kept all answers in this file.
        self.path = folder / f"{digest[:12]}.jsonl"
        if not self.path.exists():
            _log_differences(folder, made_from)
        self._answers: dict[tuple[Task, str, int], Answer] = {}
        earlier = self.path.read_bytes() if self.path.exists() else b""
        self._read(self.path, earlier.split(b"\n")[1:])
        header = json.dumps({"fingerprint": digest, "made_from": made_from}) + "\n"
        intact = header + "".join(map(_line, self._answers.values()))
        if earlier != intact.encode():
            write_text(self.path, intact)
        for path in sorted(self.folder.glob("unit-*.jsonl")):
            self._read(path, path.read_bytes().split(b"\n"))

    def _read(self, path: Path, lines: Sequence[bytes]) -> None:
        written = [line for line in lines if line]
        answers = [Answer(**row) for line in written if (row := _intact(line)) is not None]
        if len(answers) < len(written):
            torn = len(written) - len(answers)
            logger.warning("%s: %d lines are torn or damaged, their posts are asked again", path, torn)
        self._answers.update((answer[:3], answer) for answer in answers)

    @property
    def folder(self) -> Path:
        """Where the answers of this model, prompts and parameters are."""
        return self.path.with_suffix("")

    def unit(
        self, posts: Sequence[PostContent], prompts: Mapping[str, Iterable[Task]], max_retries: int
    ) -> list[Answer] | None:
        """All answers to the prompts of a unit; ``None`` where any of them is missing.

        Args:
            posts: The unit's posts.
            prompts: Post id to the tasks that are asked.
            max_retries: Further answers to an unusable one.
        """
        answers = []
        for key in ((task, post.id) for post in posts for task in prompts[post.id]):
            for attempt in count(1):
                answer = self._answers.get((*key, attempt))
                if answer is None:
                    return None
                answers.append(answer)
                if answer.is_last(max_retries):
                    break
        return answers

    def add(self, answers: Sequence[Answer]) -> None:
        """Keep the answers of a unit."""
        name = fingerprint(sorted({answer[:2] for answer in answers}))[:12]
        write_text(self.folder / f"unit-{name}.jsonl", "".join(map(_line, answers)))
        self._answers.update((answer[:3], answer) for answer in answers)


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
