"""Predictions of a model on a split, by the prompts of its tasks (paper, Section 4.3)."""

from collections.abc import Mapping, Sequence

from mulcot_rd.generation.records import Answer
from mulcot_rd.prompts import Task
from mulcot_rd.schema import Post, PredictionRecord, Reasoning


def predictions(posts: Sequence[Post], answers: Mapping[Task, Sequence[Answer]]) -> list[PredictionRecord]:
    """What a model predicts for each post, of its answers to the prompts of one task or both.

    Where the label prompt is not asked, the prediction is the label that the reasoning comes to.
    """
    return [_record(post, {task: answers[task][number] for task in answers}) for number, post in enumerate(posts)]


def _record(post: Post, answers: Mapping[Task, Answer]) -> PredictionRecord:
    label, reasoning = answers.get("label"), answers.get("reasoning")
    read = reasoning.reasoning if reasoning is not None else Reasoning()
    return PredictionRecord(
        id=post.id,
        label=post.label,
        prediction=read.prediction if label is None else label.reasoning.prediction,
        reasoning_prediction=read.prediction,
        **read.sections,
        raw_text="" if reasoning is None else reasoning.text,
        raw_label_text="" if label is None else label.text,
        attempts=0 if reasoning is None else reasoning.attempt,
        label_attempts=0 if label is None else label.attempt,
    )
