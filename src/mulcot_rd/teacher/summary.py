"""What the user reads after an annotation: statistics as JSON, as Markdown and as log lines.

All of it follows from the outcomes alone, so a resumed run has the same. Answers from the ledger keep the tokens and
the cost that they had when they were asked for.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mulcot_rd.numbers import percent_text
from mulcot_rd.schema import Sentiment
from mulcot_rd.teacher.controller import Outcome
from mulcot_rd.teacher.questions import Asked, Request

logger = logging.getLogger(__name__)

StageOneLabels = tuple[list[Sentiment | None], list[Sentiment]]
# Of long lists the summary keeps as many; the whole is in the quarantine file.
LISTED = 10


def stage_one_labels(outcomes: Sequence[Outcome]) -> StageOneLabels:
    """What stage one said of each post (``None``: no answer was usable), and the gold labels."""
    first = [outcome.first for outcome in outcomes]
    predictions = [None if record is None else record.prediction for record in first]
    return predictions, [outcome.post.label for outcome in outcomes]


def summarise(trained: list[Outcome], referred: list[Outcome], provider: str, max_retries: int) -> dict[str, Any]:
    """Statistics of an annotation, from the outcomes of training posts and of test posts.

    Returns:
        Counts of training posts: ``posts``, ``stage_1`` and ``stage_2`` (``N_t1`` and ``N_t2`` of Eqs. 3 and 4),
        ``quarantined``; ``stage_one_accuracy`` (right among all training posts, a fraction); ``attempts`` (by stage:
        answers needed -> posts, and posts without a usable answer); ``references`` (written, missing, accuracy,
        attempts); ``valid_within`` (by stage: answers -> share of posts with a usable one by then); ``answers`` (all,
        and the unusable among them); ``problems`` (what made answers unusable, most frequent first); ``tokens`` of all
        answers and ``tokens_by_stage``; ``cost_usd`` (total, per 1,000 posts and by stage in US dollars, null without a
        price; ``unpriced_answers``); ``quarantine`` (reasons, first ids); ``provider``; ``models`` (records by name).
    """
    records = [outcome.record for outcome in trained if outcome.record is not None]
    references = [outcome.record for outcome in referred if outcome.record is not None]
    stages = {
        "stage_1": [outcome.stages[0] for outcome in trained],
        "stage_2": [outcome.stages[1] for outcome in trained if len(outcome.stages) == 2],
        "references": [outcome.stages[0] for outcome in referred],
    }
    every = [stage for of_stage in stages.values() for stage in of_stage]
    answers = [answer for stage in every for answer in stage.answers]
    unusable = [each for stage in every for each in stage.question.history]
    right, cost = sum(record.stage == 1 for record in records), _cost(every)
    return {
        "posts": len(trained),
        "stage_1": right,
        "stage_2": len(records) - right,
        "quarantined": len(trained) - len(records),
        "stage_one_accuracy": _share(right, len(trained)),
        "attempts": {name: _attempts(stages[name]) for name in ("stage_1", "stage_2")},
        "references": {
            "written": len(references),
            "missing": len(referred) - len(references),
            "accuracy": _share(sum(record.prediction == record.label for record in references), len(referred)),
            "attempts": _attempts(stages["references"]),
        },
        "valid_within": {
            name: _valid_within(of_stage, 1 + max_retries) for name, of_stage in {**stages, "all": every}.items()
        },
        "answers": {"all": len(answers), "unusable": len(unusable)},
        "problems": _most_frequent(problem for each in unusable for problem in each.problems),
        "tokens": _tokens(every),
        "tokens_by_stage": {name: _tokens(of_stage) for name, of_stage in stages.items()},
        "cost_usd": {
            "total": cost,
            "per_1000_posts": None if cost is None else 1000 * cost / (len(trained) + len(referred)),
            **{name: _cost(of_stage) for name, of_stage in stages.items()},
            "unpriced_answers": sum(answer.cost_usd is None and answer.usage.prompt_tokens > 0 for answer in answers),
        },
        "quarantine": {
            "reasons": _most_frequent(outcome.quarantined.reason for outcome in trained if outcome.quarantined),
            "first_ids": [outcome.post.id for outcome in trained if outcome.quarantined][:LISTED],
        },
        "provider": provider,
        "models": dict(sorted(Counter(record.model for record in (*records, *references)).items())),
    }


def log_summary(summary: Mapping[str, Any]) -> None:
    """Say in the log what an annotation came to: stages, cost, quarantine, a line each."""
    references, tokens = summary["references"], summary["tokens"]
    logger.info(
        "teacher: stage one kept %d of %d training post(s) (%s%%), stage two %d; %d reference(s) written, %d missing",
        summary["stage_1"], summary["posts"], _percent(summary["stage_one_accuracy"]), summary["stage_2"],
        references["written"], references["missing"],
    )  # fmt: skip
    if not summary["provider"].endswith("offline"):
        said = "teacher: %s; %s prompt and %s answer tokens, answers of earlier runs included"
        cost = _dollars(summary["cost_usd"]["total"])
        logger.info(said, cost, f"{tokens['prompt']:,}", f"{tokens['completion']:,}")
    else:
        logger.info("teacher: no cost, no server was asked")
    if summary["quarantined"]:
        logger.warning("teacher: %s", _quarantined(summary))
    else:
        logger.info("teacher: nothing in quarantine")


def teacher_report(summary: Mapping[str, Any], title: str) -> str:
    """The summary of :func:`summarise` as Markdown.

    Where stage one was scored it holds ``stage_one``: by split the ``posts``, the ``accuracy``, ``weighted_f1``,
    ``macro_f1`` and ``valid_rate`` as fractions, and ``confusion`` (gold label -> answered label -> posts).
    """
    return _TEMPLATES.get_template("report.md.j2").render(
        summary={"stage_one": {}, **summary},
        title=title,
        quarantined=_quarantined(summary) if summary["quarantined"] else "",
    )


def _quarantined(summary: Mapping[str, Any]) -> str:
    quarantine, count = summary["quarantine"], summary["quarantined"]
    more = ", ..." if count > LISTED else ""
    return (
        f"{count:,} training post(s) in quarantine, without a reasoning ({', '.join(quarantine['first_ids'])}{more}), "
        f"most often because {next(iter(quarantine['reasons']))}"
    )


def _attempts(stages: list[Asked[Request]]) -> dict[str, int]:
    """How many posts needed how many answers; "unusable" counts those that never got a usable one."""
    counts = Counter(len(stage.answers) for stage in stages if stage.usable is not None)
    unusable = sum(stage.usable is None for stage in stages)
    return {**{str(n): counts[n] for n in sorted(counts)}, **({"unusable": unusable} if unusable else {})}


def _valid_within(stages: list[Asked[Request]], answers: int) -> dict[str, float | None]:
    """Share of posts with a usable answer within 1, 2, ... answers (Appendix E)."""
    needed = [len(stage.answers) for stage in stages if stage.usable is not None]
    return {str(most): _share(sum(count <= most for count in needed), len(stages)) for most in range(1, answers + 1)}


def _tokens(stages: list[Asked[Request]]) -> dict[str, int]:
    return {
        "prompt": sum(stage.usage.prompt_tokens for stage in stages),
        "completion": sum(stage.usage.completion_tokens for stage in stages),
    }


def _cost(stages: list[Asked[Request]]) -> float | None:
    """US dollars of all answers; ``None`` where none has a price."""
    costs = [answer.cost_usd for stage in stages for answer in stage.answers if answer.cost_usd is not None]
    # Rounded, so that the order in which a sum was taken can't be seen in it.
    return round(sum(costs), 9) if costs else None


def _most_frequent(reasons: Iterable[str]) -> dict[str, int]:
    """The most frequent reasons and how often each occurred, ties in the order of the alphabet."""
    return dict(sorted(Counter(reasons).items(), key=lambda item: (-item[1], item[0]))[:LISTED])


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _percent(share: float | None) -> str:
    return "-" if share is None else percent_text(share)


def _dollars(cost: float | None) -> str:
    return "no price" if cost is None else f"{cost:,.4f} USD"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


_TEMPLATES = Environment(
    loader=PackageLoader("mulcot_rd.teacher", ""),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters |= {"count": "{:,}".format, "percent": _percent, "dollars": _dollars, "cell": _cell, "any": any}
