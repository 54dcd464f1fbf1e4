"""The paper's tables of scores from every run on disk: what was measured beside what was published."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.metrics import seed_spread
from mulcot_rd.reporting.comparisons import comparison_table
from mulcot_rd.reporting.costs import cost_table, parameter_table
from mulcot_rd.reporting.published import published_rows
from mulcot_rd.reporting.quality import qualities_table
from mulcot_rd.reporting.runs import (
    ABLATIONS,
    OTHER_WEIGHTS,
    RunMetrics,
    SplitSizes,
    read_runs,
    seed_groups,
)
from mulcot_rd.reporting.tables import (
    DIST_NOTE,
    OWN_METHOD,
    PUBLISHED,
    REASONING_METRICS,
    REFERENCE_METRICS,
    ZERO_SHOT,
    interval_text,
    percent,
)
from mulcot_rd.reporting.writers import ReportTable

COARSE_DATASETS = ("mvsa_single", "mvsa_multiple")
# The shipped sample and a user's own data sets get columns beside these where a run of them is on disk.
FINE_DATASETS = ("twitter2015", "twitter2017")
TABLES = (
    *("table_1", "table_3", "table_4", "table_5", "table_6", "table_7", "table_8", "table_10", "table_11", "table_12"),
    *("table_scores", "table_quality", "table_seeds", "table_comparisons"),
)
CAPTIONS = {
    "table_1": "Posts of each data set, and training rows after data expansion (Table 1)",
    "table_3": "Coarse-grained sentiment classification, percent (Table 3)",
    "table_4": "Aspect-based sentiment classification, percent (Table 4)",
    "table_5": "Generated reasoning against the teacher's, percent (Table 5)",
    "table_6": "The method without one of its parts, percent (Table 6)",
    "table_7": "Architectures, percent (Table 7)",
    "table_8": "The assistant on the training split during data expansion, percent (Table 8)",
    "table_scores": "Every score of every run, percent, with its interval",
    "table_seeds": "Scores over seeds, percent",
}
_MARKS_NOTE = (
    "An asterisk is the paper's mark of zero-shot figures; Emotion-LLaMA was trained again by its authors, "
    "Open-Flamingo answered with 16 examples in its prompt."
)
_SPREAD_NOTE = (
    "Beside a measured score stands its 95 percent bootstrap interval over the test posts; beside a mean over seeds "
    "the sample standard deviation over seeds (±)."
)
NOTES = {
    "table_3": f"{_MARKS_NOTE} {_SPREAD_NOTE}",
    "table_4": f"{_MARKS_NOTE} {_SPREAD_NOTE}",
    "table_5": f"{DIST_NOTE} Intervals of the measured scores stand in table_scores.",
    "table_6": (
        "The paper takes its first four rows from the assistant and the last from the student. It heads Twitter-17's "
        "second column w-F1, yet the first row prints there the macro F1 of Table 4; measured runs have both. "
        f"{_SPREAD_NOTE}"
    ),
    "table_7": (
        "The paper's rows are those of Qwen3-VL (architectures 1 and 3); those of Qwen2.5-VL stand in Tables 3 and 4. "
        "Architectures 1 and 3, and 2 and 4, differ in their teacher alone: taught by the same rules, they are equal. "
        f"{_SPREAD_NOTE}"
    ),
    "table_scores": "low and high are the ends of the 95 percent bootstrap interval over the test posts.",
    "table_seeds": "Runs that differ in their seed alone; the deviation is the sample standard deviation over seeds.",
}


def collect_tables(reports: Path, outputs: Path, *, compare_with: str | None = None) -> dict[str, ReportTable]:
    """Build the paper's tables from every run on disk, none included.

    Args:
        reports: Folder with ``<dataset>/<run>/metrics.json`` and ``efficiency.json`` (``data/08_reporting``).
        outputs: Folder with ``<dataset>/<run>/<model>_test.jsonl`` (``data/07_model_output``).
        compare_with: Name of a run that every other one on the same data set is compared with, besides the
            comparisons that are always made.

    Returns:
        The tables of :data:`TABLES` by name, with caption and note: published rows, then measured ones, each naming
        its source; scores in percent, what is unknown missing.
    """
    runs = read_runs(reports)
    without_aspects = {run.run.dataset for run in runs if not run.run.aspects}
    own = sorted({run.run.dataset for run in runs} - {*COARSE_DATASETS, *FINE_DATASETS})
    coarse = (*COARSE_DATASETS, *(dataset for dataset in own if dataset in without_aspects))
    fine = (*FINE_DATASETS, *(dataset for dataset in own if dataset not in without_aspects))
    every = (*coarse, *fine)
    coarse_columns = [(dataset, metric) for dataset in coarse for metric in ("accuracy", "weighted_f1")]
    fine_columns = [(dataset, metric) for dataset in fine for metric in ("accuracy", "macro_f1")]
    ablation_columns = list(fine_columns)
    ablation_columns.insert(fine_columns.index(("twitter2017", "macro_f1")), ("twitter2017", "weighted_f1"))
    whole = [run for run in runs if run.run.variant not in ABLATIONS and not run.run.variant.startswith(OTHER_WEIGHTS)]
    frames = {
        "table_1": _split_table(runs, every),
        "table_3": _score_table(whole, coarse_columns, 3, _model_name, with_teacher=True),
        "table_4": _score_table(whole, fine_columns, 4, _model_name, with_teacher=True),
        "table_5": _reasoning_table(runs, every),
        "table_6": _score_table(_ablated(runs), coarse_columns + ablation_columns, 6, _ablation_name),
        "table_7": _score_table(
            [run for run in runs if run.run.variant == "full"], coarse_columns + fine_columns, 7, _architecture_name
        ),
        "table_8": _expansion_table(runs, every),
        "table_scores": _every_score(runs),
        "table_seeds": _seed_table(runs),
    }
    tables = {name: ReportTable(frame, CAPTIONS[name], NOTES.get(name, "")) for name, frame in frames.items()}
    tables |= {
        "table_10": parameter_table(runs),
        "table_11": cost_table(runs, 11, "mvsa_single", coarse),
        "table_12": cost_table(runs, 12, "twitter2015", fine),
        "table_quality": qualities_table(runs),
        "table_comparisons": comparison_table(runs, outputs, compare_with),
    }
    return {name: tables[name] for name in TABLES}


def _score_table(
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
        key = ("teacher (zero-shot)", run.run.without_seed, run.teacher_source)
        add(key, run.run.dataset, _percents(run.teacher), _intervals(run.teacher))
    for run in measured:
        for model, scores in run.models.items():
            key = (method_of(run, model), run.run.run, run.run.source)
            add(key, run.run.dataset, _percents(scores), _intervals(scores))
    for group in seed_groups(measured):
        first = group[0]
        for model, spreads in _seed_spreads(group).items():
            name = f"{first.run.without_seed}, mean of {len(group)} seeds"
            means = {metric: 100 * spread.mean for metric, spread in spreads.items()}
            deviations = {metric: f"± {100 * spread.deviation:.1f}" for metric, spread in spreads.items()}
            add((method_of(first, model), name, first.run.source), first.run.dataset, means, deviations)
    columns = ["method", "run", "source"]
    named = [dict(zip(columns, key, strict=True)) | row for key, row in rows.items()]
    for dataset, metric in cells:
        columns.append(f"{dataset} {metric}")
        # A column of intervals that nobody measured would only widen the page.
        if any(row.get(_spread(dataset, metric)) for row in named):
            columns.append(_spread(dataset, metric))
    return pd.DataFrame(named, columns=columns)


def _one_a_teacher(runs: list[RunMetrics]) -> list[RunMetrics]:
    """The runs whose teacher has labelled the test split in a way of its own: most runs share theirs."""
    seen: dict[str, RunMetrics] = {}
    for run in runs:
        if run.teacher:
            # Intervals are drawn with the run's seed.
            scores = {name: value for name, value in run.teacher.items() if "interval" not in name}
            seen.setdefault(f"{run.run.dataset} {run.teacher_source} {run.run.of_posts} {scores}", run)
    return list(seen.values())


def _model_name(run: RunMetrics, model: str) -> str:
    if run.run.variant != ZERO_SHOT:
        return model
    return f"{run.run.served or model} (zero-shot)"


def _ablation_name(run: RunMetrics, model: str) -> str:
    return f"{ABLATIONS.get(run.run.variant, OWN_METHOD)} ({model})"


def _architecture_name(run: RunMetrics, model: str) -> str:
    return f"architecture {run.run.arch} ({model})"


def _ablated(runs: list[RunMetrics]) -> list[RunMetrics]:
    """Ablated runs and the whole ones they are measured against; without any ablation those of architecture 4."""
    architectures = {run.run.arch for run in runs if run.run.variant in ABLATIONS} | {4}
    shown = [run for run in runs if run.run.variant in {"full", *ABLATIONS} and run.run.arch in architectures]
    order = ["full", *ABLATIONS]
    return sorted(shown, key=lambda run: (run.run.arch, order.index(run.run.variant)))


def _reasoning_table(runs: list[RunMetrics], datasets: tuple[str, ...]) -> pd.DataFrame:
    """Table 5, with Dist-1/2 of the reference texts beside those of the generated ones."""
    rows: list[dict[str, Any]] = []
    for dataset in datasets:
        rows += _published(dataset, 5)
        for run in _of(runs, dataset):
            references = {
                column: percent(run.references.get(name), column) for column, name in REFERENCE_METRICS.items()
            }
            rows += [
                _identity(run, model)
                | {metric: percent(scores.get(metric), metric) for metric in REASONING_METRICS}
                | references
                for model, scores in run.models.items()
                if any(scores.get(metric) is not None for metric in REASONING_METRICS)
            ]
    return pd.DataFrame(rows, columns=[*_IDENTITY, *REASONING_METRICS, *REFERENCE_METRICS])


def _split_table(runs: list[RunMetrics], datasets: tuple[str, ...]) -> pd.DataFrame:
    """Table 1; the rows after data expansion are the assistant's doing, so its scale is named here too."""
    rows: list[dict[str, Any]] = []
    for dataset in datasets:
        rows += _published(dataset, 1)
        rows += [
            _identity(run, "data set") | run.dataset.model_dump()
            for run in _of(runs, dataset)
            if run.dataset is not None
        ]
    return _with_counts(pd.DataFrame(rows, columns=[*_IDENTITY, *SplitSizes.model_fields]), SplitSizes.model_fields)


def _expansion_table(runs: list[RunMetrics], datasets: tuple[str, ...]) -> pd.DataFrame:
    """Table 8, with the number of reasonings kept, which the paper leaves to Table 1."""
    rows: list[dict[str, Any]] = []
    for dataset in datasets:
        rows += _published(dataset, 8)
        for run in _of(runs, dataset):
            if run.expansion is None or run.expansion.accuracy is None:
                continue
            figures = run.expansion.model_dump()
            ends = _intervals(figures)
            rows.append(
                _identity(run, "assistant")
                | {name: figures[name] for name in ("samples", "kept")}
                | {name: percent(figures[name], name) for name in _EXPANSION_SCORES}
                | {f"{name} interval": ends.get(name) for name in _EXPANSION_SCORES}
            )
    shown = [column for name in _EXPANSION_SCORES for column in (name, f"{name} interval")]
    shown = [column for column in shown if column in _EXPANSION_SCORES or any(row.get(column) for row in rows)]
    return _with_counts(pd.DataFrame(rows, columns=[*_IDENTITY, "samples", "kept", *shown]), ("samples", "kept"))


def _every_score(runs: list[RunMetrics]) -> pd.DataFrame:
    """One score a row: nothing that was measured is left out here."""
    rows = []
    for run in runs:
        for model, scores in run.models.items():
            intervals = scores.get("intervals", {})
            for metric, value in _fractions(scores).items():
                low, high = intervals.get(metric, (None, None))
                ends = {"low": percent(low, metric), "high": percent(high, metric)}
                rows.append(_identity(run, model) | {"metric": metric, "value": percent(value, metric)} | ends)
    return pd.DataFrame(rows, columns=[*_IDENTITY, "metric", "value", "low", "high"])


def _seed_table(runs: list[RunMetrics]) -> pd.DataFrame:
    rows = []
    for group in seed_groups(runs):
        about = {"run": group[0].run.without_seed, "seeds": ", ".join(str(run.run.seed) for run in group)}
        for model, spreads in _seed_spreads(group).items():
            rows += [
                _identity(group[0], model)
                | about
                | {"metric": metric, "mean": 100 * spread.mean, "deviation": 100 * spread.deviation}
                for metric, spread in spreads.items()
            ]
    return pd.DataFrame(rows, columns=[*_IDENTITY, "seeds", "metric", "mean", "deviation"])


def _seed_spreads(group: list[RunMetrics]) -> dict[str, dict[str, Any]]:
    """By model and metric the mean and deviation over a group's seeds, of what every one of its runs has measured."""
    models = [model for model in group[0].models if all(model in run.models for run in group)]
    spreads: dict[str, dict[str, Any]] = {}
    for model in models:
        columns = [_fractions(run.models[model]) for run in group]
        shared = [metric for metric in columns[0] if all(metric in column for column in columns)]
        spreads[model] = {metric: seed_spread([column[metric] for column in columns]) for metric in shared}
    return spreads


def _fractions(scores: dict[str, Any]) -> dict[str, float]:
    """The scores among a model's figures: counts, intervals and what was not measured stay away."""
    return {name: value for name, value in scores.items() if isinstance(value, float)}


def _percents(scores: dict[str, Any]) -> dict[str, float | None]:
    return {metric: percent(value, metric) for metric, value in _fractions(scores).items()}


def _intervals(scores: dict[str, Any]) -> dict[str, str]:
    # Runs of earlier versions have the accuracy's interval alone.
    known = {"accuracy": scores["accuracy_interval"]} if scores.get("accuracy_interval") else {}
    known |= scores.get("intervals", {})
    return {metric: interval_text(100 * low, 100 * high) for metric, (low, high) in known.items()}


def _spread(dataset: str, metric: str) -> str:
    return f"{dataset} {metric} interval"


_EXPANSION_SCORES = ("accuracy", "weighted_f1", "macro_f1")
_IDENTITY = ("dataset", "method", "run", "source")


def _identity(run: RunMetrics, method: str) -> dict[str, Any]:
    return dict(zip(_IDENTITY, (run.run.dataset, method, run.run.run, run.run.source), strict=True))


def _published(dataset: str, table: int) -> list[dict[str, Any]]:
    rows = published_rows(dataset, (table,)).to_dict("records")
    return [{**row, "dataset": dataset, "run": "", "source": PUBLISHED} for row in rows]


def _of(runs: list[RunMetrics], dataset: str) -> list[RunMetrics]:
    return [run for run in runs if run.run.dataset == dataset]


def _with_counts(frame: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """Whole numbers stay whole beside missing ones."""
    return frame.astype(dict.fromkeys(columns, "Int64"))
