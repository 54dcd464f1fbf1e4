"""What a model's answers say of posts: predictions on a split (paper, Section 4.3), and verdicts on any post."""

from collections.abc import Mapping, Sequence

from mulcot_rd.generation.label_scores import LabelScores, probabilities
from mulcot_rd.generation.records import Answer
from mulcot_rd.prompts import Task
from mulcot_rd.schema import Post, PredictionRecord, Reasoning, Verdict


def verdict(answers: Mapping[Task, Answer], scores: LabelScores | None = None, temperature: float = 1.0) -> Verdict:
    """The verdict on a post, of a model's answers to the prompts of one task or both.

    Where the label prompt is not asked, the label is the one that the reasoning comes to.

    Args:
        answers: The answer by task.
        scores: Those of :mod:`mulcot_rd.generation.label_scores`; ``None`` where there are none.
        temperature: Divides the scores.
    """
    label, reasoning = answers.get("label"), answers.get("reasoning")
    read = Reasoning() if reasoning is None else reasoning.reasoning
    return Verdict(
        label=read.prediction if label is None else label.reasoning.prediction,
        probabilities=None if scores is None else probabilities(scores, temperature),
        **read.sections,
        reasoning_label=read.prediction,
        attempts=0 if reasoning is None else reasoning.attempt,
        label_attempts=0 if label is None else label.attempt,
        raw_text="" if reasoning is None else reasoning.text,
        raw_label_text="" if label is None else label.text,
    )


def verdicts(
    answers: Mapping[Task, Sequence[Answer]], scores: Sequence[LabelScores] | None = None, temperature: float = 1.0
) -> list[Verdict]:
    """:func:`verdict` of many posts; ``answers`` and ``scores`` have one for each."""
    by_post = [dict(zip(answers, given, strict=True)) for given in zip(*answers.values(), strict=True)]
    own: Sequence[LabelScores | None] = scores or [None] * len(by_post)
    return [verdict(given, each, temperature) for given, each in zip(by_post, own, strict=True)]


def predictions(posts: Sequence[Post], answers: Mapping[Task, Sequence[Answer]]) -> list[PredictionRecord]:
    """What a model predicts for each post of a split, beside its gold label."""
    return [
        PredictionRecord(
            id=post.id,
            label=post.label,
            prediction=said.label,
            reasoning_prediction=said.reasoning_label,
            **said.model_dump(exclude={"label", "reasoning_label", "probabilities"}),
        )
        for post, said in zip(posts, verdicts(answers), strict=True)
    ]
