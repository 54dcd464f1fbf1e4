"""Scores of every run: the paper's Tables 3, 4, 6 and 7, every score in one table, and means over seeds."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from mulcot_rd.metrics import seed_spread
from mulcot_rd.numbers import number_text, percent_text
from mulcot_rd.reporting.cells import fractions, intervals, percent, percents, without_intervals
from mulcot_rd.reporting.published import OWN_METHOD, published_rows
from mulcot_rd.reporting.runs import ABLATIONS, IDENTITY, RunMetrics, seed_groups
from mulcot_rd.reporting.sources import PUBLISHED, ZERO_SHOT, teacher_row


def score_table(
    runs: list[RunMetrics],
    cells: Sequence[tuple[str, str]],
    paper_table: int,
    method_of: Callable[[RunMetrics, str], str],
    *,
    with_teacher: bool = False,
) -> pd.DataFrame:
    """A row a method, two columns or more a data set; runs of one name on several sets share a row."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}

    def add(key: tuple[str, str, str], dataset: str, values: dict[str, float | None], spreads: dict[str, str]) -> None:
        row = rows.setdefault(key, {})
        for metric in (metric for of, metric in cells if of == dataset):
            row[f"{dataset} {metric}"] = values.get(metric)
            row[_spread(dataset, metric)] = spreads.get(metric)

    datasets = dict.fromkeys(dataset for dataset, _ in cells)
    for dataset in datasets:
        for published in published_rows(dataset, (paper_table,)).to_dict("records"):
            add((published.pop("method"), "", PUBLISHED), dataset, published, {})
    measured = [run for run in runs if run.run.dataset in datasets]
    for run in _one_a_teacher(measured) if with_teacher else ():
        key = (teacher_row(run.run.teacher_provider, "zero-shot"), run.run.run, run.teacher_source)
        add(key, run.run.dataset, percents(run.teacher), intervals(run.teacher))
    for run in measured:
        for model, scores in run.models.items():
            key = (method_of(run, model), run.run.run, run.run.source)
            add(key, run.run.dataset, percents(scores), intervals(scores))
    for group in seed_groups(measured):
        first = group[0]
        for model, spreads in _seed_spreads(group).items():
            name = f"{first.run.without_seed}, mean of {len(group)} seeds"
            means = {metric: 100 * spread.mean for metric, spread in spreads.items()}
            deviations = {metric: f"± {percent_text(spread.deviation)}" for metric, spread in spreads.items()}
            add((method_of(first, model), name, first.run.source), first.run.dataset, means, deviations)
    columns = ["method", "run", "source"]
    named = [dict(zip(columns, key, strict=True)) | row for key, row in rows.items()]
    for dataset, metric in cells:
        columns.append(f"{dataset} {metric}")
        # A column of intervals that nobody measured would only widen the page.
        if any(row.get(_spread(dataset, metric)) for row in named):
            columns.append(_spread(dataset, metric))
    return pd.DataFrame(named, columns=columns)


def every_score(runs: list[RunMetrics]) -> pd.DataFrame:
    """One score a row: nothing that was measured is left out here."""
    rows = []
    for run in runs:
        for model, scores in run.models.items():
            intervals = scores.get("intervals", {})
            for metric, value in fractions(scores).items():
                low, high = intervals.get(metric, (None, None))
                ends = {"low": percent(low, metric), "high": percent(high, metric)}
                rows.append(run.identity(model) | {"metric": metric, "value": percent(value, metric)} | ends)
    return pd.DataFrame(rows, columns=[*IDENTITY, "metric", "value", "low", "high"])


def scores_across(scores: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Runs against each other: a row a model of a run on a data set, a score and its interval a column.

    Args:
        scores: What :func:`every_score` gives, or ``table_scores`` from the catalog.
        metrics: Names of the scores; one that nobody measured has no column.
    """
    chosen = scores[scores["metric"].isin(metrics)].astype({"value": float})
    shown = chosen["low"].notna() & chosen["high"].notna()
    chosen["interval"] = [
        f"{number_text(low)} to {number_text(high)}" if known else None
        for low, high, known in zip(chosen["low"], chosen["high"], shown, strict=True)
    ]
    of_metric = [
        chosen[chosen["metric"] == metric]
        .set_index(list(IDENTITY))[["value", "interval"]]
        .rename(columns={"value": metric, "interval": f"{metric} interval"})
        for metric in metrics
        if metric in set(chosen["metric"])
    ]
    return pd.concat(of_metric, axis="columns").reset_index() if of_metric else pd.DataFrame(columns=list(IDENTITY))


def seed_table(runs: list[RunMetrics]) -> pd.DataFrame:
    """Mean and sample standard deviation of each score over runs that differ in their seed alone."""
    rows = []
    for group in seed_groups(runs):
        about = {"run": group[0].run.without_seed, "seeds": ", ".join(str(run.run.seed) for run in group)}
        for model, spreads in _seed_spreads(group).items():
            rows += [
                group[0].identity(model)
                | about
                | {"metric": metric, "mean": 100 * spread.mean, "deviation": 100 * spread.deviation}
                for metric, spread in spreads.items()
            ]
    return pd.DataFrame(rows, columns=[*IDENTITY, "seeds", "metric", "mean", "deviation"])


def model_name(run: RunMetrics, model: str) -> str:
    """A row's method in Tables 3 and 4."""
    if run.run.variant != ZERO_SHOT:
        return model
    return f"{run.run.served or model} (zero-shot)"


def ablation_name(run: RunMetrics, model: str) -> str:
    """A row's method in Table 6."""
    return f"{ABLATIONS.get(run.run.variant, OWN_METHOD)} ({model})"


def architecture_name(run: RunMetrics, model: str) -> str:
    """A row's method in Table 7."""
    return f"architecture {run.run.arch} ({model})"


def ablated(runs: list[RunMetrics]) -> list[RunMetrics]:
    """Ablated runs and the whole ones they are measured against; without any ablation those of architecture 4."""
    architectures = {run.run.arch for run in runs if run.run.variant in ABLATIONS} | {4}
    shown = [run for run in runs if run.run.variant in {"full", *ABLATIONS} and run.run.arch in architectures]
    order = ["full", *ABLATIONS]
    return sorted(shown, key=lambda run: (run.run.arch, order.index(run.run.variant)))


def _one_a_teacher(runs: list[RunMetrics]) -> list[RunMetrics]:
    """The runs whose teacher has labelled the test split in a way of its own: most runs share theirs."""
    seen: dict[str, RunMetrics] = {}
    for run in runs:
        if run.teacher:
            scores = without_intervals(run.teacher)
            seen.setdefault(f"{run.run.dataset} {run.teacher_source} {run.run.of_posts} {scores}", run)
    return list(seen.values())


def _seed_spreads(group: list[RunMetrics]) -> dict[str, dict[str, Any]]:
    """By model and metric the mean and deviation over a group's seeds, of what every one of its runs has measured."""
    models = [model for model in group[0].models if all(model in run.models for run in group)]
    spreads: dict[str, dict[str, Any]] = {}
    for model in models:
        columns = [fractions(run.models[model]) for run in group]
        shared = [metric for metric in columns[0] if all(metric in column for column in columns)]
        spreads[model] = {metric: seed_spread([column[metric] for column in columns]) for metric in shared}
    return spreads


def _spread(dataset: str, metric: str) -> str:
    return f"{dataset} {metric} interval"
