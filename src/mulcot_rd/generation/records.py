"""Answers: as they come from a model, as they are kept, and the log that keeps them across interruptions."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from mulcot_rd.files import replace_file
from mulcot_rd.fingerprint import differences, fingerprint
from mulcot_rd.prompts import Task
from mulcot_rd.reasoning import parse
from mulcot_rd.schema import Reasoning

logger = logging.getLogger(__name__)


class Generated(NamedTuple):
    """One generated answer: its text, and whether the model ended its turn before the length limit."""

    text: str
    finished: bool

    def shortcomings(self, task: Task) -> int:
        """What is missing of a usable answer: a readable label; of a reasoning also its sections and its end."""
        reasoning = parse(self.text)
        if task == "label":
            return int(reasoning.prediction is None)
        return len(reasoning.problems) + int(not self.finished)


class Answer(BaseModel):
    """The answer that was kept for a post: the first usable one, else the least incomplete."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    post_id: str
    attempts: int
    text: str
    finished: bool = Field(description="Whether the model ended its turn; a cut answer is no complete reasoning")

    @classmethod
    def kept(cls, post_id: str, given: Sequence[Generated], task: Task) -> "Answer":
        """The best of the answers given to a prompt, in the order in which they were given."""
        best = min(range(len(given)), key=lambda index: (given[index].shortcomings(task), index))
        return cls(post_id=post_id, attempts=len(given), text=given[best].text, finished=given[best].finished)

    @property
    def reasoning(self) -> Reasoning:
        """The answer as read by the response format."""
        return parse(self.text)

    @property
    def usable(self) -> bool:
        """Whether it is a whole reasoning with its label."""
        return self.finished and not self.reasoning.problems


class Logged(NamedTuple):
    """A generated answer and what it answers."""

    task: Task
    post_id: str
    attempt: int
    answer: Generated


class AnswerLog:
    """Append-only JSONL of answers; what is in it is not asked for again.

    Each line holds a hash of itself: one that was torn or damaged counts as not answered, and is taken out.

    Args:
        folder: Where the logs of one kind of work lie, a file for what each was made from: none replaces another.
        made_from: What the answers depend on, by name: model, prompts, parameters. The first line holds it.
    """

    def __init__(self, folder: Path, made_from: Mapping[str, Any]) -> None:
        mark = fingerprint(made_from)
        self.path = path = folder / f"{mark[:12]}.jsonl"
        self._answers: dict[tuple[str, str, int], Generated] = {}
        if not path.exists():
            _say_what_differs(folder, made_from)
        before = path.read_bytes() if path.exists() else b""
        lines = [json.dumps({"fingerprint": mark, "made_from": made_from}).encode()]
        written = [line for line in before.split(b"\n")[1:] if line]
        for line in written:
            row = _intact(line)
            if row is not None:
                lines.append(line)
                self._answers[row["task"], row["post_id"], row["attempt"]] = Generated(row["text"], row["finished"])
        if len(lines) <= len(written):
            logger.warning(
                "%s: %d lines are torn or damaged, their posts are asked again", path, len(written) + 1 - len(lines)
            )
        whole = b"\n".join(lines) + b"\n"
        if whole != before:
            replace_file(path, lambda temporary: temporary.write_bytes(whole) and None)

    @property
    def folder(self) -> Path:
        """Where else answers of this model, prompts and parameters may be kept."""
        return self.path.with_suffix("")

    def get(self, task: Task, post_id: str, attempt: int) -> Generated | None:
        """The logged answer, or ``None``."""
        return self._answers.get((task, post_id, attempt))

    def add(self, answers: Sequence[Logged]) -> None:
        """Append answers; one that is there already is not written twice."""
        new = [row for row in answers if (row.task, row.post_id, row.attempt) not in self._answers]
        lines = [
            _line(
                {
                    "task": row.task,
                    "post_id": row.post_id,
                    "attempt": row.attempt,
                    "text": row.answer.text,
                    "finished": row.answer.finished,
                }
            )
            for row in new
        ]
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write("".join(line + "\n" for line in lines))
        self._answers.update(((row.task, row.post_id, row.attempt), row.answer) for row in new)


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps({**row, "hash": fingerprint(row)}, ensure_ascii=False)


def _intact(line: bytes) -> dict[str, Any] | None:
    """The row of a line, or ``None`` where it is not what was written; earlier versions wrote no hash."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    wanted = row.pop("hash", None)
    return row if wanted in (None, fingerprint(row)) else None


def _say_what_differs(folder: Path, made_from: Mapping[str, Any]) -> None:
    """Log why answers are asked for though others are there: against the newest of them."""
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
