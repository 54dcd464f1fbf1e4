"""Data expansion with the trained assistant (paper, Appendix A, Eqs. 7 and 8)."""

from collections.abc import Sequence
from typing import Any, Literal

from mulcot_rd.generation.records import Answer
from mulcot_rd.metrics import classification_scores, label_intervals, quality
from mulcot_rd.schema import ExpansionRecord, Post, TeacherRecord, TrainingRow


def keep_correct(posts: Sequence[Post], answers: Sequence[Answer], *, faithful: bool = False) -> list[ExpansionRecord]:
    """``D_rea^a``: the complete reasonings whose own label is the gold label (Eq. 7).

    Args:
        posts: Posts of the training split; any other split is refused, so that nothing leaks.
        answers: The assistant's reasoning of each post.
        faithful: Keep of these the faithful ones alone (:func:`mulcot_rd.metrics.quality.faithful`); not in the paper.

    Raises:
        ValueError: If a post is not of the training split.
    """
    correct = [record for record in _complete(posts, answers) if record.prediction == record.label]
    if not faithful:
        return correct
    post_of = {post.id: post for post in posts}
    return [record for record in correct if quality.faithful(record.reasoning, post_of[record.id])]


def wrong_reasonings(posts: Sequence[Post], answers: Sequence[Answer]) -> list[ExpansionRecord]:
    """The complete reasonings whose own label is another one; arguments and errors as for :func:`keep_correct`."""
    return [record for record in _complete(posts, answers) if record.prediction != record.label]


def _complete(posts: Sequence[Post], answers: Sequence[Answer]) -> list[ExpansionRecord]:
    strangers = [post.id for post in posts if post.split != "train"]
    if strangers:
        raise ValueError(f"data expansion is for the training split alone; post {strangers[0]} is of another")
    return [
        ExpansionRecord(
            id=post.id,
            label=post.label,
            attempts=answer.attempt,
            raw_text=answer.text,
            **answer.reasoning.model_dump(),
        )
        for post, answer in zip(posts, answers, strict=True)
        if not answer.shortcomings
    ]


def expansion_statistics(posts: Sequence[Post], answers: Sequence[Answer], kept: int, seed: int) -> dict[str, Any]:
    """The statistics of Table 8: the labels that the assistant's reasonings reach on the training split.

    Under ``intervals`` stands the 95 percent bootstrap interval of each score, drawn with ``seed``.
    """
    predicted, labels = [answer.reasoning.prediction for answer in answers], [post.label for post in posts]
    scores = classification_scores(predicted, labels)
    return {
        "samples": len(posts),
        "kept": kept,
        "accuracy": scores["accuracy"],
        "weighted_f1": scores["weighted_f1"],
        "macro_f1": scores["macro_f1"],
        "valid_rate": scores["valid_rate"],
        "intervals": label_intervals(predicted, labels, seed),
        "answers_by_attempts": {
            str(n): sum(answer.attempt == n for answer in answers) for n in sorted({a.attempt for a in answers})
        },
    }


def no_expansion(posts: Sequence[Post]) -> dict[str, Any]:
    """The same statistics where the assistant expands nothing: no scores, nothing kept."""
    scores = ("accuracy", "weighted_f1", "macro_f1", "valid_rate")
    return {"samples": len(posts), "kept": 0, **dict.fromkeys(scores), "intervals": {}, "answers_by_attempts": {}}


def teacher_rows(teacher: Sequence[TeacherRecord]) -> list[TrainingRow]:
    """``D_rea^t``: the teacher's reasonings as training rows (Eqs. 3 and 4)."""
    return [_row(record, "teacher") for record in teacher]


def student_rows(teacher: Sequence[TeacherRecord], assistant: Sequence[ExpansionRecord]) -> list[TrainingRow]:
    """``D_rea^all``: the union of the teacher's and the assistant's reasonings (Eq. 8), N + N_a rows."""
    return teacher_rows(teacher) + [_row(record, "assistant") for record in assistant]


def _row(record: TeacherRecord | ExpansionRecord, source: Literal["teacher", "assistant"]) -> TrainingRow:
    return TrainingRow(
        post_id=record.id, source=source, reasoning=record.reasoning, post_fingerprint=record.post_fingerprint
    )
