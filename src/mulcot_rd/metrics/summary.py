"""The block of ``metrics.json`` that belongs to one model: every metric of its test predictions."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from mulcot_rd.metrics.classification import agreement, classification_scores
from mulcot_rd.metrics.labels import stage_one_scores
from mulcot_rd.metrics.reasoning import distinct, reasoning_scores_by_pair
from mulcot_rd.metrics.statistics import bootstrap_mean_interval, label_intervals
from mulcot_rd.reasoning import write
from mulcot_rd.schema import Post, PredictionRecord, TeacherRecord

logger = logging.getLogger(__name__)

_NEEDS_REASONING = (
    "agreement", "reasoning_accuracy", "reasoning_macro_f1", "reasoning_valid_rate", "answers_by_attempts",
    "sim", "meteor", "bleu", "rouge_l", "dist_1", "dist_2",
)  # fmt: skip


def model_scores(
    predictions: Sequence[PredictionRecord], references: Sequence[TeacherRecord], *, seed: int, name: str
) -> dict[str, Any]:
    """Scores of one model on one split, as fractions, and under ``intervals`` the 95 percent interval of each.

    Labels are scored as answered to the label prompt, and once more as read from the reasoning. Reasonings are
    scored as whole answers against the teacher's, on the posts that have one: on the released texts this gives the
    Dist-1/2 that the paper prints, and texts without the format's keys do not. What a model was not asked for has no
    score: ``None``.

    Args:
        predictions: The model's answers.
        references: The teacher's reasonings on the same split.
        seed: Of the bootstrap.
        name: Names the model in the log.
    """
    labels = [record.label for record in predictions]
    predicted = [record.prediction for record in predictions]
    intervals = label_intervals(predicted, labels, seed)
    scores: dict[str, Any] = {
        **classification_scores(predicted, labels),
        "accuracy_interval": intervals["accuracy"],
        **dict.fromkeys(_NEEDS_REASONING),
        "reasoning_pairs": 0,
    }
    if any(record.attempts for record in predictions):
        reasoned, more = _reasoning_scores(predictions, references, seed=seed, name=name)
        scores |= reasoned
        intervals |= more
    return scores | {"intervals": intervals}


def _reasoning_scores(
    predictions: Sequence[PredictionRecord], references: Sequence[TeacherRecord], *, seed: int, name: str
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """What the reasonings score, and the intervals."""
    labels = [record.label for record in predictions]
    by_reasoning = [record.reasoning_prediction for record in predictions]
    read = classification_scores(by_reasoning, labels)
    read_intervals = label_intervals(by_reasoning, labels, seed)
    intervals = {f"reasoning_{metric}": read_intervals[metric] for metric in ("accuracy", "macro_f1", "valid_rate")}
    scores: dict[str, Any] = {
        "reasoning_accuracy": read["accuracy"],
        "reasoning_macro_f1": read["macro_f1"],
        "reasoning_valid_rate": read["valid_rate"],
        "answers_by_attempts": _attempts(predictions),
    }
    if any(record.label_attempts for record in predictions):
        by_label_prompt = [record.prediction for record in predictions]
        scores["agreement"] = agreement(by_label_prompt, by_reasoning)
        pairs_of_labels = zip(by_label_prompt, by_reasoning, strict=True)
        agreeing = [float(one is not None and one == other) for one, other in pairs_of_labels]
        intervals["agreement"] = list(bootstrap_mean_interval(agreeing, seed))
    by_id = {record.id: record for record in references}
    pairs = [(record.raw_text, write(by_id[record.id].reasoning)) for record in predictions if record.id in by_id]
    if len(pairs) < len(predictions):
        logger.warning(
            "%s: %d of %d reasonings have no reference of the teacher and are left out of the reasoning metrics",
            name, len(predictions) - len(pairs), len(predictions),
        )  # fmt: skip
    if pairs:
        texts, compared = zip(*pairs, strict=True)
        by_pair = reasoning_scores_by_pair(texts, compared, show_progress=True)
        scores |= {metric: float(np.mean(values)) for metric, values in by_pair.items()}
        intervals |= {metric: list(bootstrap_mean_interval(values, seed)) for metric, values in by_pair.items()}
    else:
        # Diversity needs no reference.
        scores |= dict.fromkeys(("sim", "meteor", "bleu", "rouge_l"))
        scores |= distinct([record.raw_text for record in predictions])
    return scores | {"reasoning_pairs": len(pairs)}, intervals


def teacher_scores(references: Sequence[TeacherRecord], posts: Sequence[Post], *, seed: int) -> dict[str, Any]:
    """The teacher's own stage-one labels on the split, and the diversity of its texts; empty without references.

    Args:
        references: The teacher's reasonings on the split.
        posts: All posts of the split; one without a reference counts as answered wrongly.
        seed: Of the bootstrap.
    """
    if not references:
        return {}
    answered = {record.id: record.prediction for record in references}
    predictions = [answered.get(post.id) for post in posts]
    return {
        "teacher": stage_one_scores(predictions, [post.label for post in posts], seed=seed),
        "references": distinct([write(record.reasoning) for record in references]),
    }


def _attempts(predictions: Sequence[PredictionRecord]) -> dict[str, int]:
    counts = sorted({record.attempts for record in predictions})
    return {str(count): sum(record.attempts == count for record in predictions) for count in counts}
