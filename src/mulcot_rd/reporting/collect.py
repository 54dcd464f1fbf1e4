"""The paper's tables from every run on disk: what was measured beside what was published."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.reporting.cells import REASONING_METRICS, REFERENCE_METRICS, intervals, percent
from mulcot_rd.reporting.comparisons import comparison_table
from mulcot_rd.reporting.costs import COST_CAPTIONS, cost_table, parameter_table
from mulcot_rd.reporting.preference_table import preference_table
from mulcot_rd.reporting.published import DIST_NOTE, published_rows
from mulcot_rd.reporting.quality_tables import qualities_table
from mulcot_rd.reporting.read import read_runs
from mulcot_rd.reporting.runs import ABLATIONS, IDENTITY, OTHER_WEIGHTS, RunMetrics, SplitSizes
from mulcot_rd.reporting.score_tables import (
    ablated,
    ablation_name,
    architecture_name,
    every_score,
    model_name,
    score_table,
    seed_table,
)
from mulcot_rd.reporting.sources import PUBLISHED
from mulcot_rd.reporting.writers import ReportTable

COARSE_DATASETS = ("mvsa_single", "mvsa_multiple")
# The shipped sample and a user's own data sets get columns beside these where a run of them is on disk.
FINE_DATASETS = ("twitter2015", "twitter2017")
TABLES = (
    *("table_1", "table_3", "table_4", "table_5", "table_6", "table_7", "table_8", "table_10", "table_11", "table_12"),
    *("table_scores", "table_quality", "table_preference", "table_seeds", "table_comparisons"),
)
CAPTIONS = {
    "table_1": "Posts of each data set, and training rows after data expansion (Table 1)",
    "table_3": "Coarse-grained sentiment classification, percent (Table 3)",
    "table_4": "Aspect-based sentiment classification, percent (Table 4)",
    "table_5": "Generated reasoning against the teacher's, percent (Table 5)",
    "table_6": "The method without one of its parts, percent (Table 6)",
    "table_7": "Architectures, percent (Table 7)",
    "table_8": "The assistant on the training split during data expansion, percent (Table 8)",
    **COST_CAPTIONS,
    "table_scores": "Every score of every run, percent, with its interval",
    "table_seeds": "Scores over seeds, percent",
}
_MARKS_NOTE = (
    "An asterisk is the paper's mark of zero-shot numbers; the paper's authors trained Emotion-LLaMA again on these "
    "data sets; Open-Flamingo answered with 16 examples in its prompt."
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
    "table_scores": (
        "low and high are the ends of the 95 percent bootstrap interval over the test posts. The parameters of "
        "each run stand in <dataset>/<run>/config.yml beside this folder."
    ),
    "table_seeds": "Runs that differ in their seed alone; the deviation is the sample standard deviation over seeds.",
}
_EXPANSION_SCORES = ("accuracy", "weighted_f1", "macro_f1")


def collect_tables(
    reports: Path, outputs: Path, *, compare_with: str | None = None, versions: Mapping[str, str] | None = None
) -> dict[str, ReportTable]:
    """Build the paper's tables from every run on disk, none included.

    Args:
        reports: Folder with ``<dataset>/<run>/metrics.json`` and ``efficiency.json`` (``data/08_reporting``).
        outputs: Folder with ``<dataset>/<run>/<model>_test.jsonl`` (``data/07_model_output``).
        compare_with: Name of a run that every other one on the same data set is compared with, besides the
            comparisons that are always made.
        versions: ``<dataset>/<run>`` to the version of its metrics that the tables show, with the predictions,
            qualities and costs that belong to it; of other runs they show the newest.

    Returns:
        The tables of :data:`TABLES` by name, with caption and note: published rows, then measured ones, each naming
        its source; scores in percent, what is unknown missing.

    Raises:
        UserError: If there is no such version, or no run to compare with.
    """
    runs = read_runs(reports, outputs, versions)
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
        "table_3": score_table(whole, coarse_columns, 3, model_name, with_teacher=True),
        "table_4": score_table(whole, fine_columns, 4, model_name, with_teacher=True),
        "table_5": _reasoning_table(runs, every),
        "table_6": score_table(ablated(runs), coarse_columns + ablation_columns, 6, ablation_name),
        "table_7": score_table(
            [run for run in runs if run.run.variant == "full"], coarse_columns + fine_columns, 7, architecture_name
        ),
        "table_8": _expansion_table(runs, every),
        "table_scores": every_score(runs),
        "table_seeds": seed_table(runs),
    }
    tables = {name: ReportTable(frame, CAPTIONS[name], NOTES.get(name, "")) for name, frame in frames.items()}
    tables |= {
        "table_10": parameter_table(runs),
        "table_11": cost_table(runs, 11, "mvsa_single", coarse),
        "table_12": cost_table(runs, 12, "twitter2015", fine),
        "table_quality": qualities_table(runs),
        "table_preference": preference_table(runs),
        "table_comparisons": comparison_table(runs, compare_with),
    }
    if not (older := [f"{run.run.dataset}/{run.run.run}:{run.run.version}" for run in runs if run.run.version]):
        return {name: tables[name] for name in TABLES}
    told = f"Taken in place of the newest metrics: {', '.join(older)}."
    return {name: replace(tables[name], note=f"{tables[name].note} {told}".lstrip()) for name in TABLES}


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
                run.identity(model)
                | {metric: percent(scores.get(metric), metric) for metric in REASONING_METRICS}
                | references
                for model, scores in run.models.items()
                if any(scores.get(metric) is not None for metric in REASONING_METRICS)
            ]
    return pd.DataFrame(rows, columns=[*IDENTITY, *REASONING_METRICS, *REFERENCE_METRICS])


def _split_table(runs: list[RunMetrics], datasets: tuple[str, ...]) -> pd.DataFrame:
    """Table 1; the rows after data expansion are the assistant's doing, so its scale is named here too."""
    rows: list[dict[str, Any]] = []
    for dataset in datasets:
        rows += _published(dataset, 1)
        rows += [
            run.identity("data set") | run.dataset.model_dump() for run in _of(runs, dataset) if run.dataset is not None
        ]
    return _with_counts(pd.DataFrame(rows, columns=[*IDENTITY, *SplitSizes.model_fields]), SplitSizes.model_fields)


def _expansion_table(runs: list[RunMetrics], datasets: tuple[str, ...]) -> pd.DataFrame:
    """Table 8, with the number of reasonings kept, which the paper leaves to Table 1."""
    rows: list[dict[str, Any]] = []
    for dataset in datasets:
        rows += _published(dataset, 8)
        for run in _of(runs, dataset):
            if run.expansion is None or run.expansion.accuracy is None:
                continue
            counts = run.expansion.model_dump()
            ends = intervals(counts)
            rows.append(
                run.identity("assistant")
                | {name: counts[name] for name in ("samples", "kept")}
                | {name: percent(counts[name], name) for name in _EXPANSION_SCORES}
                | {f"{name} interval": ends.get(name) for name in _EXPANSION_SCORES}
            )
    shown = [column for name in _EXPANSION_SCORES for column in (name, f"{name} interval")]
    shown = [column for column in shown if column in _EXPANSION_SCORES or any(row.get(column) for row in rows)]
    return _with_counts(pd.DataFrame(rows, columns=[*IDENTITY, "samples", "kept", *shown]), ("samples", "kept"))


def _published(dataset: str, table: int) -> list[dict[str, Any]]:
    rows = published_rows(dataset, (table,)).to_dict("records")
    return [{**row, "dataset": dataset, "run": "", "source": PUBLISHED} for row in rows]


def _of(runs: list[RunMetrics], dataset: str) -> list[RunMetrics]:
    return [run for run in runs if run.run.dataset == dataset]


def _with_counts(frame: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """Whole numbers stay whole beside missing ones."""
    return frame.astype(dict.fromkeys(columns, "Int64"))
