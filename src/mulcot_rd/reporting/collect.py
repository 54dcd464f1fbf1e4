"""The paper's tables from every run on disk: what was measured beside what was published."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, Field, ValidationError

from mulcot_rd.reporting.published import published_rows
from mulcot_rd.reporting.tables import (
    DIST_NOTE,
    PUBLISHED,
    REASONING_METRICS,
    REFERENCE_METRICS,
    percent,
    source_of,
)
from mulcot_rd.reporting.writers import ReportTable

COARSE_DATASETS = ("mvsa_single", "mvsa_multiple")
# The shipped sample and a user's own data sets get columns beside these where a run of them is on disk.
FINE_DATASETS = ("twitter2015", "twitter2017")
CAPTIONS = {
    "table_1": "Posts of each data set, and training rows after data expansion (Table 1)",
    "table_3": "Coarse-grained sentiment classification, percent (Tables 3 and 7)",
    "table_4": "Aspect-based sentiment classification, percent (Tables 4 and 7)",
    "table_5": "Generated reasoning against the teacher's, percent (Table 5)",
    "table_8": "The assistant on the training split during data expansion, percent (Table 8)",
}
NOTES = {"table_5": DIST_NOTE}


class RunInfo(BaseModel):
    """Which run a ``metrics.json`` belongs to."""

    dataset: str
    run: str
    arch: int
    scale: Literal["tiny", "full"]
    variant: str
    seed: int
    limit: int | None = None
    teacher: str | None = None


class Expansion(BaseModel):
    """The assistant on the training split (Table 8); scores are fractions, ``kept`` the rows that Eq. 7 keeps."""

    samples: int
    kept: int
    accuracy: float
    weighted_f1: float
    macro_f1: float


class SplitSizes(BaseModel):
    """Posts a split, and rows of the student's training set (Table 1)."""

    train: int
    dev: int
    test: int
    train_plus: int | None = None


class RunMetrics(BaseModel):
    """A ``metrics.json``, as far as the paper's tables need it; scores are fractions by metric name."""

    run: RunInfo
    assistant: dict[str, Any] = Field(default_factory=dict)
    student: dict[str, Any] = Field(default_factory=dict)
    references: dict[str, float] = Field(default_factory=dict)
    expansion: Expansion | None = None
    dataset: SplitSizes | None = None


def read_runs(folder: Path) -> list[RunMetrics]:
    """Read every ``<dataset>/<run>/metrics.json`` below a folder, in the order of their paths.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If one can't be read or belongs to another folder; the message names it.
    """
    files = sorted(folder.glob("*/*/metrics.json"))
    if not files:
        raise FileNotFoundError(f"no <dataset>/<run>/metrics.json below {folder}: run the evaluation pipeline first")
    runs = []
    for file in files:
        try:
            run = RunMetrics.model_validate_json(file.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise ValueError(f"{file}: {place}: {first['msg']}; run the evaluation pipeline of it again") from error
        if (run.run.dataset, run.run.run) != (file.parent.parent.name, file.parent.name):
            raise ValueError(f"{file} holds run {run.run.run} on {run.run.dataset}: move it to the folder of that run")
        runs.append(run)
    return runs


def collect_tables(folder: Path) -> dict[str, ReportTable]:
    """Build the paper's tables from every run below a folder (``data/08_reporting``).

    Returns:
        ``table_1``, ``table_3``, ``table_4``, ``table_5`` and ``table_8``, with caption and note: published rows, then
        measured ones, each naming its source; scores in percent, what is unknown missing.

    Raises:
        FileNotFoundError: If there is no run.
        ValueError: If a ``metrics.json`` can't be read.
    """
    runs = read_runs(folder)
    measured = {run.run.dataset for run in runs}
    own = sorted(measured - {*COARSE_DATASETS, *FINE_DATASETS})
    fine = (*FINE_DATASETS, *own)
    every = (*COARSE_DATASETS, *fine)
    frames = {
        "table_1": _split_table(runs, every),
        "table_3": _classification_table(runs, COARSE_DATASETS, ("accuracy", "weighted_f1"), (3, 7)),
        "table_4": _classification_table(runs, fine, ("accuracy", "macro_f1"), (4, 7)),
        "table_5": _reasoning_table(runs, every),
        "table_8": _expansion_table(runs, every),
    }
    return {name: ReportTable(frame, CAPTIONS[name], NOTES.get(name, "")) for name, frame in frames.items()}


def _classification_table(
    runs: list[RunMetrics], datasets: tuple[str, ...], metrics: tuple[str, str], paper_tables: tuple[int, ...]
) -> pd.DataFrame:
    """Tables 3 and 4: a row a method, two columns a data set; runs of one name on several sets share a row."""
    rows: dict[tuple[str, str, str], dict[str, float | None]] = {}
    for dataset in datasets:
        for published in published_rows(dataset, paper_tables).to_dict("records"):
            row = rows.setdefault((published["method"], "", PUBLISHED), {})
            row.update({f"{dataset} {metric}": published[metric] for metric in metrics})
    for run in (run for run in runs if run.run.dataset in datasets):
        for role, scores in _roles(run):
            row = rows.setdefault((role, run.run.run, source_of(run.run.scale, run.run.teacher, run.run.limit)), {})
            row.update({f"{run.run.dataset} {metric}": percent(scores.get(metric), metric) for metric in metrics})
    columns = ["method", "run", "source", *(f"{dataset} {metric}" for dataset in datasets for metric in metrics)]
    named = [dict(zip(columns, key, strict=False)) | row for key, row in rows.items()]
    return pd.DataFrame(named, columns=columns)


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
                _identity(run, role)
                | {metric: percent(scores.get(metric), metric) for metric in REASONING_METRICS}
                | references
                for role, scores in _roles(run)
                if any(metric in scores for metric in REASONING_METRICS)
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
        for run in (run for run in _of(runs, dataset) if run.expansion is not None):
            figures = run.expansion.model_dump()
            scores = {name: percent(figures[name], name) for name in ("accuracy", "weighted_f1", "macro_f1")}
            rows.append(_identity(run, "assistant") | figures | scores)
    return _with_counts(pd.DataFrame(rows, columns=[*_IDENTITY, *Expansion.model_fields]), ("samples", "kept"))


_IDENTITY = ("dataset", "method", "run", "source")


def _identity(run: RunMetrics, method: str) -> dict[str, Any]:
    source = source_of(run.run.scale, run.run.teacher, run.run.limit)
    return dict(zip(_IDENTITY, (run.run.dataset, method, run.run.run, source), strict=True))


def _published(dataset: str, table: int) -> list[dict[str, Any]]:
    rows = published_rows(dataset, (table,)).to_dict("records")
    return [{**row, "dataset": dataset, "run": "", "source": PUBLISHED} for row in rows]


def _of(runs: list[RunMetrics], dataset: str) -> list[RunMetrics]:
    return [run for run in runs if run.run.dataset == dataset]


def _roles(run: RunMetrics) -> list[tuple[str, dict[str, Any]]]:
    """The models that a run has measured: one without an assistant has the student alone."""
    scored = (("assistant", run.assistant), ("student", run.student))
    return [(role, scores) for role, scores in scored if scores]


def _with_counts(frame: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """Whole numbers stay whole beside missing ones."""
    return frame.astype(dict.fromkeys(columns, "Int64"))
