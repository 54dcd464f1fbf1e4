"""The summary of an annotation: a function of its outcomes alone, so a resumed run has the same.

Answers that come from the ledger keep the tokens, cost and latency that they had when they were asked for.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mulcot_rd.schema import Sentiment
from mulcot_rd.teacher.controller import Outcome, StageResult
from mulcot_rd.teacher.provider import Answer

logger = logging.getLogger(__name__)

# Appendix E: the share of samples with a valid prediction within one or two answers, about.
PAPER_VALID_WITHIN_TWO = 0.79
PERCENTILES = (50, 90, 99)
# Of long lists the summary keeps as many; the whole is in the quarantine file.
LISTED = 10


@dataclass(frozen=True)
class Verdicts:
    """Stage one's labels beside the gold ones, in the order of the posts; ``None`` where no answer was usable."""

    predictions: tuple[Sentiment | None, ...]
    labels: tuple[Sentiment, ...]


def stage_one_verdicts(outcomes: Sequence[Outcome]) -> Verdicts:
    """What stage one said of each post, wrong answers included."""
    first = [outcome.stages[0].reasoning for outcome in outcomes]
    return Verdicts(
        predictions=tuple(None if reasoning is None else reasoning.prediction for reasoning in first),
        labels=tuple(outcome.post.label for outcome in outcomes),
    )


def summarise(trained: list[Outcome], referred: list[Outcome], provider: str, max_retries: int) -> dict[str, Any]:
    """Figures of an annotation.

    Args:
        trained: Outcomes of the training posts.
        referred: Outcomes of the test posts.
        provider: The provider's name.
        max_retries: Further answers that a stage may ask for.

    Returns:
        ``posts``, ``stage_1`` and ``stage_2`` (records of each, ``N_t1`` and ``N_t2`` of Eqs. 3 and 4),
        ``quarantined``; ``stage_one_accuracy`` (right among all training posts, a fraction) and
        ``stage_one_unusable``; ``attempts`` (by stage: answers needed -> posts, and posts without a usable
        answer); ``valid_within`` (by stage: answers -> share of posts that had a usable one by then); ``answers``
        (all, and the unusable among them); ``problems`` (what made answers unusable, most frequent first);
        ``references`` (written, missing, accuracy); ``tokens`` of all answers and ``tokens_by_stage``; ``cost_usd``
        (total, per 1,000 posts and by stage in US dollars, null without a price; ``unpriced_answers``); ``latency_s``
        (answers measured, percentiles in seconds); ``quarantine`` (reasons, first ids); ``provider`` and ``models``
        (records by model name).
    """
    records = [outcome.record for outcome in trained if outcome.record is not None]
    references = [outcome.record for outcome in referred if outcome.record is not None]
    stages = {
        "stage_1": [outcome.stages[0] for outcome in trained],
        "stage_2": [outcome.stages[1] for outcome in trained if len(outcome.stages) == 2],
        "references": [outcome.stages[0] for outcome in referred],
    }
    every = [stage for of_kind in stages.values() for stage in of_kind]
    right = sum(record.stage == 1 for record in records)
    tokens = {name: _tokens(of_kind) for name, of_kind in stages.items()}
    return {
        "posts": len(trained),
        "stage_1": right,
        "stage_2": len(records) - right,
        "quarantined": len(trained) - len(records),
        "stage_one_accuracy": _share(right, len(trained)),
        "stage_one_unusable": sum(stage.reasoning is None for stage in stages["stage_1"]),
        "attempts": {name: _attempts(stages[name]) for name in ("stage_1", "stage_2")},
        "valid_within": {
            name: _valid_within(of_kind, 1 + max_retries) for name, of_kind in {**stages, "all": every}.items()
        },
        "answers": {
            "all": sum(len(stage.answers) for stage in every),
            "unusable": sum(len(stage.unusable) for stage in every),
        },
        "problems": _most_frequent(problem for stage in every for bad in stage.unusable for problem in bad.problems),
        "references": {
            "written": len(references),
            "missing": len(referred) - len(references),
            "accuracy": _share(sum(record.prediction == record.label for record in references), len(referred)),
            "attempts": _attempts(stages["references"]),
        },
        "tokens": {kind: sum(of_stage[kind] for of_stage in tokens.values()) for kind in ("prompt", "completion")},
        "tokens_by_stage": tokens,
        "cost_usd": _costs(stages, len(trained) + len(referred)),
        "latency_s": _latency(every),
        "quarantine": {
            "reasons": _most_frequent(outcome.quarantined.reason for outcome in trained if outcome.quarantined),
            "first_ids": [outcome.post.id for outcome in trained if outcome.quarantined][:LISTED],
        },
        "provider": provider,
        "models": dict(sorted(Counter(record.model for record in (*records, *references)).items())),
    }


def log_summary(summary: dict[str, Any]) -> None:
    """Say in the log what an annotation came to: stages, money, quarantine, a line each."""
    accuracy = summary["stage_one_accuracy"]
    logger.info(
        "teacher: stage one kept %d of %d training post(s)%s, stage two %d; %d reference(s) written, %d missing",
        summary["stage_1"],
        summary["posts"],
        "" if accuracy is None else f" ({accuracy:.1%})",
        summary["stage_2"],
        summary["references"]["written"],
        summary["references"]["missing"],
    )
    cost, tokens = summary["cost_usd"], summary["tokens"]
    if any(tokens.values()):
        logger.info(
            "teacher: %s; %s prompt and %s answer tokens, answers of earlier runs included",
            "no price known" if cost["total"] is None else f"{cost['total']:.4f} USD",
            f"{tokens['prompt']:,}",
            f"{tokens['completion']:,}",
        )
    else:
        logger.info("teacher: no cost, no server was asked")
    if summary["quarantined"]:
        first = next(iter(summary["quarantine"]["reasons"]))
        logger.warning(
            "teacher: %d training post(s) in quarantine (%s), most often because %s",
            summary["quarantined"],
            ", ".join(summary["quarantine"]["first_ids"]) + (", ..." if summary["quarantined"] > LISTED else ""),
            first,
        )
    else:
        logger.info("teacher: nothing in quarantine")


def _attempts(stages: list[StageResult]) -> dict[str, int]:
    """How many posts needed how many answers; "unusable" counts those that never got a usable one."""
    counts = Counter(len(stage.answers) for stage in stages if stage.reasoning is not None)
    histogram = {str(attempts): counts[attempts] for attempts in sorted(counts)}
    unusable = sum(stage.reasoning is None for stage in stages)
    return {**histogram, "unusable": unusable} if unusable else histogram


def _valid_within(stages: list[StageResult], answers: int) -> dict[str, float | None]:
    """Share of posts with a usable answer within 1, 2, ... answers (Appendix E)."""
    needed = [len(stage.answers) for stage in stages if stage.reasoning is not None]
    return {str(most): _share(sum(count <= most for count in needed), len(stages)) for most in range(1, answers + 1)}


def _tokens(stages: list[StageResult]) -> dict[str, int]:
    usages = [stage.usage for stage in stages]
    return {
        "prompt": sum(usage.prompt_tokens for usage in usages),
        "completion": sum(usage.completion_tokens for usage in usages),
    }


def _costs(stages: dict[str, list[StageResult]], posts: int) -> dict[str, Any]:
    """US dollars of all answers; ``None`` where no answer has a price."""
    by_stage = {name: _cost(_answers(of_kind)) for name, of_kind in stages.items()}
    answers = [answer for of_kind in stages.values() for answer in _answers(of_kind)]
    total = _cost(answers)
    return {
        "total": total,
        "per_1000_posts": None if total is None or not posts else 1000 * total / posts,
        **by_stage,
        "unpriced_answers": sum(answer.cost_usd is None and answer.usage.prompt_tokens > 0 for answer in answers),
    }


def _cost(answers: list[Answer]) -> float | None:
    costs = [answer.cost_usd for answer in answers if answer.cost_usd is not None]
    # Rounded, so that the order in which a sum was taken can't be seen in it.
    return round(sum(costs), 9) if costs else None


def _latency(stages: list[StageResult]) -> dict[str, float | int | None]:
    """Percentiles of the seconds that answers of a server took."""
    seconds = [answer.latency_s for answer in _answers(stages) if answer.latency_s > 0]
    values = np.percentile(seconds, PERCENTILES).tolist() if seconds else [None] * len(PERCENTILES)
    return {"answers": len(seconds), **{f"p{part}": value for part, value in zip(PERCENTILES, values, strict=True)}}


def _answers(stages: list[StageResult]) -> list[Answer]:
    return [answer for stage in stages for answer in stage.answers]


def _most_frequent(reasons: Any) -> dict[str, int]:
    """The most frequent reasons and how often each occurred, ties in the order of the alphabet."""
    counts = Counter(reasons)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:LISTED])


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
