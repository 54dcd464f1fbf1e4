"""The summary of an annotation: a function of its outcomes alone, so a resumed run has the same."""

from collections import Counter
from typing import Any

from mulcot_rd.teacher.controller import Outcome, StageResult


def summarise(trained: list[Outcome], referred: list[Outcome], provider: str) -> dict[str, Any]:
    """Figures of an annotation.

    Args:
        trained: Outcomes of the training posts.
        referred: Outcomes of the test posts.
        provider: The provider's name.

    Returns:
        ``posts``, ``stage_1`` and ``stage_2`` (records of each, ``N_t1`` and ``N_t2`` of Eqs. 3 and 4),
        ``quarantined``; ``stage_one_accuracy`` (right among all training posts, a fraction) and
        ``stage_one_unusable``; ``attempts`` (by stage: answers needed -> posts, and posts without a usable
        answer); ``references`` (written, missing, accuracy); ``tokens`` of all answers; ``provider`` and
        ``models`` (records by model name).
    """
    records = [outcome.record for outcome in trained if outcome.record is not None]
    references = [outcome.record for outcome in referred if outcome.record is not None]
    first = [outcome.stages[0] for outcome in trained]
    second = [outcome.stages[1] for outcome in trained if len(outcome.stages) == 2]
    stages = [stage for outcome in (*trained, *referred) for stage in outcome.stages]
    right = sum(record.stage == 1 for record in records)
    return {
        "posts": len(trained),
        "stage_1": right,
        "stage_2": len(records) - right,
        "quarantined": len(trained) - len(records),
        "stage_one_accuracy": _share(right, len(trained)),
        "stage_one_unusable": sum(stage.reasoning is None for stage in first),
        "attempts": {"stage_1": _attempts(first), "stage_2": _attempts(second)},
        "references": {
            "written": len(references),
            "missing": len(referred) - len(references),
            "accuracy": _share(sum(record.prediction == record.label for record in references), len(referred)),
            "attempts": _attempts([outcome.stages[0] for outcome in referred]),
        },
        "tokens": {
            "prompt": sum(stage.usage.prompt_tokens for stage in stages),
            "completion": sum(stage.usage.completion_tokens for stage in stages),
        },
        "provider": provider,
        "models": dict(sorted(Counter(record.model for record in (*records, *references)).items())),
    }


def _attempts(stages: list[StageResult]) -> dict[str, int]:
    """How many posts needed how many answers; "unusable" counts those that never got a usable one."""
    counts = Counter(len(stage.answers) for stage in stages if stage.reasoning is not None)
    histogram = {str(attempts): counts[attempts] for attempts in sorted(counts)}
    unusable = sum(stage.reasoning is None for stage in stages)
    return {**histogram, "unusable": unusable} if unusable else histogram


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
