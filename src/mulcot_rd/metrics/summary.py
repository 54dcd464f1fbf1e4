"""The block of ``metrics.json`` that belongs to one model: every metric of its test predictions."""

import logging
from collections.abc import Sequence
from typing import Any

from mulcot_rd.metrics.classification import agreement, classification_scores
from mulcot_rd.metrics.reasoning import distinct, reasoning_scores
from mulcot_rd.metrics.statistics import bootstrap_interval
from mulcot_rd.reasoning import write
from mulcot_rd.schema import PredictionRecord, TeacherRecord

logger = logging.getLogger(__name__)


def role_scores(
    predictions: Sequence[PredictionRecord], references: Sequence[TeacherRecord], *, seed: int, name: str
) -> dict[str, Any]:
    """Scores of one model on one split, as fractions.

    Labels are scored as answered to the label prompt, and once more as read from the reasoning. Reasonings are
    scored as whole answers against the teacher's, on the posts that have one: on the released texts this gives the
    Dist-1/2 that the paper prints, and texts without the format's keys do not.

    Args:
        predictions: The model's answers.
        references: The teacher's reasonings on the same split.
        seed: Of the bootstrap.
        name: Names the model in the log.
    """
    labels = [record.label for record in predictions]
    by_label_prompt = [record.prediction for record in predictions]
    by_reasoning = [record.reasoning_prediction for record in predictions]
    interval = bootstrap_interval(by_label_prompt, labels, "accuracy", seed)
    read = classification_scores(by_reasoning, labels)
    scores: dict[str, Any] = {
        **classification_scores(by_label_prompt, labels),
        "accuracy_interval": [interval.low, interval.high],
        "agreement": agreement(by_label_prompt, by_reasoning),
        "reasoning_accuracy": read["accuracy"],
        "reasoning_macro_f1": read["macro_f1"],
        "reasoning_valid_rate": read["valid_rate"],
        "answers_by_attempts": _attempts(predictions),
    }
    by_id = {record.id: record for record in references}
    pairs = [(record.raw_text, write(by_id[record.id].reasoning)) for record in predictions if record.id in by_id]
    if len(pairs) < len(predictions):
        logger.warning(
            "%s: %d of %d reasonings have no reference of the teacher and are left out of the reasoning metrics",
            name, len(predictions) - len(pairs), len(predictions),
        )  # fmt: skip
    if pairs:
        generated, wanted = zip(*pairs, strict=True)
        scores |= reasoning_scores(generated, wanted, show_progress=True)
    else:
        # Diversity needs no reference.
        scores |= dict.fromkeys(("sim", "meteor", "bleu", "rouge_l"))
        scores |= distinct([record.raw_text for record in predictions])
    return scores | {"reasoning_pairs": len(pairs)}


def teacher_scores(references: Sequence[TeacherRecord], *, seed: int) -> dict[str, Any]:
    """The teacher's own stage-one labels on the split, and the diversity of its texts; empty without references."""
    if not references:
        return {}
    labels = [record.label for record in references]
    predictions = [record.prediction for record in references]
    interval = bootstrap_interval(predictions, labels, "accuracy", seed)
    return {
        "teacher": {
            **classification_scores(predictions, labels),
            "accuracy_interval": [interval.low, interval.high],
        },
        "references": distinct([write(record.reasoning) for record in references]),
    }


def _attempts(predictions: Sequence[PredictionRecord]) -> dict[str, int]:
    counts = sorted({record.attempts for record in predictions})
    return {str(count): sum(record.attempts == count for record in predictions) for count in counts}
