"""What a model's answers say of posts: predictions on a split (paper, Section 4.3), and verdicts on any post."""

from collections.abc import Mapping, Sequence
from typing import Any

from mulcot_rd.generation.label_scores import LabelScores, probabilities
from mulcot_rd.generation.records import Answer
from mulcot_rd.prompts import Task
from mulcot_rd.schema import Post, PredictionRecord, Reasoning, Sentiment, Verdict


def predictions(posts: Sequence[Post], answers: Mapping[Task, Sequence[Answer]]) -> list[PredictionRecord]:
    """What a model predicts for each post, of its answers to the prompts of one task or both.

    Where the label prompt is not asked, the prediction is the label that the reasoning comes to.
    """
    records = []
    for post, (label, reasoning, read) in zip(posts, _read(answers), strict=True):
        records.append(
            PredictionRecord(id=post.id, label=post.label, prediction=label, reasoning_prediction=reasoning, **read)
        )
    return records


def verdicts(
    answers: Mapping[Task, Sequence[Answer]], scores: Sequence[LabelScores] | None, temperature: float = 1.0
) -> list[Verdict]:
    """The verdicts on posts, of a model's answers about them.

    Args:
        answers: Task to an answer a post.
        scores: Those of :mod:`mulcot_rd.generation.label_scores`, of the same posts; ``None`` where there are none.
        temperature: Divides the scores.
    """
    made = []
    for number, (label, reasoning, read) in enumerate(_read(answers)):
        given = None if scores is None else probabilities(scores[number], temperature)
        made.append(Verdict(label=label, probabilities=given, reasoning_label=reasoning, **read))
    return made


def _read(
    answers: Mapping[Task, Sequence[Answer]],
) -> list[tuple[Sentiment | None, Sentiment | None, dict[str, Any]]]:
    """Of each post the label that counts, the reasoning's, and what the records of posts share."""
    number_of_posts = len(next(iter(answers.values())))
    return [_of_post({task: given[number] for task, given in answers.items()}) for number in range(number_of_posts)]


def _of_post(answers: Mapping[Task, Answer]) -> tuple[Sentiment | None, Sentiment | None, dict[str, Any]]:
    label, reasoning = answers.get("label"), answers.get("reasoning")
    read = reasoning.reasoning if reasoning is not None else Reasoning()
    return (
        read.prediction if label is None else label.reasoning.prediction,
        read.prediction,
        {
            **read.sections,
            "raw_text": "" if reasoning is None else reasoning.text,
            "raw_label_text": "" if label is None else label.text,
            "attempts": 0 if reasoning is None else reasoning.attempt,
            "label_attempts": 0 if label is None else label.attempt,
        },
    )
