"""The report of an annotation for people: the summary as Markdown."""

from collections.abc import Iterable, Mapping
from typing import Any

from mulcot_rd.schema import Sentiment
from mulcot_rd.teacher.summary import PAPER_VALID_WITHIN_TWO

_STAGES = {
    "stage_1": "stage one, training split",
    "stage_2": "stage two, training split",
    "references": "stage one, test split",
}
_SPLITS = {"train": "training split", "test": "test split"}


def teacher_report(summary: Mapping[str, Any], title: str) -> str:
    """The summary as Markdown.

    Args:
        summary: What :func:`mulcot_rd.teacher.summary.summarise` gives, with ``stage_one`` where it was scored: by
            split the ``posts``, the ``accuracy``, ``weighted_f1``, ``macro_f1`` and ``valid_rate`` as fractions, and
            ``confusion`` (gold label -> answered label -> posts).
        title: Data set and run.
    """
    models = ", ".join(f"{name} ({count:,} records)" for name, count in summary["models"].items()) or "none"
    parts = [
        f"# Teacher annotation: {title}",
        f"Provider: {summary['provider']}. Models, as they named themselves: {models}.",
        *_stages(summary),
        *_stage_one(summary.get("stage_one", {})),
        *_retries(summary),
        *_money(summary),
        *_quarantine(summary),
    ]
    return "\n\n".join(parts) + "\n"


def _stages(summary: Mapping[str, Any]) -> list[str]:
    references = summary["references"]
    rows = [
        ("training split", summary["posts"]),
        ("of these right without the label (stage one, Eq. 3)", summary["stage_1"]),
        ("of these explained with the label (stage two, Eq. 4)", summary["stage_2"]),
        ("of these in quarantine, without a reasoning", summary["quarantined"]),
        ("test split", references["written"] + references["missing"]),
        ("of these with a reference (a usable answer without the label, right or wrong)", references["written"]),
        ("of these without", references["missing"]),
    ]
    return ["## Stages", _table(("what", "posts"), [(name, f"{count:,}") for name, count in rows])]


def _stage_one(scores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Accuracy, F1 and confusion of stage one; unusable answers count as wrong."""
    if not scores:
        return []
    header = ("split", "posts", "accuracy", "weighted F1", "macro F1", "with a usable answer")
    metrics = ("accuracy", "weighted_f1", "macro_f1", "valid_rate")
    rows = [
        (_SPLITS[split], f"{of_split['posts']:,}", *(_percent(of_split[metric]) for metric in metrics))
        for split, of_split in scores.items()
    ]
    parts = [
        "## Stage one against the gold labels",
        "In percent of all posts of a split; a post without a usable answer counts as wrong. The test split's row is "
        "the teacher's of Tables 3 and 4.",
        _table(header, rows),
    ]
    for split, of_split in scores.items():
        columns = next(iter(of_split["confusion"].values()))
        answered = [label if label in set(Sentiment) else "no usable answer" for label in columns]
        confusion = [
            (gold, *(f"{count:,}" for count in counts.values())) for gold, counts in of_split["confusion"].items()
        ]
        parts += [
            f"Posts of the {_SPLITS[split]}, gold label by answered label:",
            _table(("gold", *answered), confusion),
        ]
    return parts


def _retries(summary: Mapping[str, Any]) -> list[str]:
    within = {name: shares for name, shares in summary["valid_within"].items() if any(shares.values())}
    rows = [
        ({**_STAGES, "all": "all stages"}[name], *(_percent(share) for share in shares.values()))
        for name, shares in within.items()
    ]
    answers = list(summary["valid_within"]["all"])
    parts = [
        "## Retries",
        "Of the posts that a stage was asked about, the share (percent) with a usable answer within so many answers; "
        f"the paper has about {PAPER_VALID_WITHIN_TWO:.0%} within two (Appendix E).",
        _table(("stage", *answers), rows),
    ]
    if summary["problems"]:
        answers = summary["answers"]
        parts += [
            f"{answers['unusable']:,} of {answers['all']:,} answers were unusable, some for several reasons. The most "
            "frequent, as the teacher was told when it was asked again:",
            _counts("problem", summary["problems"]),
        ]
    return parts


def _money(summary: Mapping[str, Any]) -> list[str]:
    cost, tokens, latency = summary["cost_usd"], summary["tokens_by_stage"], summary["latency_s"]
    if not any(summary["tokens"].values()) and not latency["answers"]:
        return ["## Tokens, cost, time", "None: no server was asked."]
    rows = [
        (name, f"{tokens[key]['prompt']:,}", f"{tokens[key]['completion']:,}", _dollars(cost[key]))
        for key, name in _STAGES.items()
    ]
    total = summary["tokens"]
    rows.append(("together", f"{total['prompt']:,}", f"{total['completion']:,}", _dollars(cost["total"])))
    said = ["Answers of earlier runs are included, requests that were lost on the way are not."]
    said += [f"Per 1,000 posts: {_dollars(cost['per_1000_posts'])}."] if cost["per_1000_posts"] is not None else []
    if cost["unpriced_answers"]:
        said.append(
            f"{cost['unpriced_answers']:,} of {summary['answers']['all']:,} answers have no price, as teacher.prices "
            "lacked the model."
        )
    if latency["answers"]:
        said.append(
            f"Latency of {latency['answers']:,} answers: half within {latency['p50']:.2f} s, 90 percent within "
            f"{latency['p90']:.2f} s, 99 percent within {latency['p99']:.2f} s."
        )
    table = _table(("stage", "prompt tokens", "answer tokens", "cost"), rows)
    return ["## Tokens, cost, time", table, " ".join(said)]


def _quarantine(summary: Mapping[str, Any]) -> list[str]:
    if not summary["quarantined"]:
        return ["## Quarantine", "Empty: every training post has a reasoning."]
    quarantine = summary["quarantine"]
    listed = ", ".join(quarantine["first_ids"])
    more = summary["quarantined"] - len(quarantine["first_ids"])
    return [
        "## Quarantine",
        f"{summary['quarantined']:,} training posts have no reasoning: {listed}"
        f"{f' and {more:,} more' if more else ''}. Their raw answers are in quarantine.jsonl. The next run asks those "
        "again whose request failed; those without a usable answer get further ones if teacher.max_retries is raised.",
        _counts("most frequent reasons", quarantine["reasons"]),
    ]


def _counts(what: str, counts: Mapping[str, int]) -> str:
    return _table((what, "times"), [(_cell(reason), f"{count:,}") for reason, count in counts.items()])


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [header, ("---", *("---:" for _ in header[1:])), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _dollars(cost: float | None) -> str:
    return "no price" if cost is None else f"{cost:,.4f} USD"
