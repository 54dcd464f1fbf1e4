"""The table of a run's reasoning qualities, which need no reference: teacher, assistant and student side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mulcot_rd.numbers import interval_text
from mulcot_rd.preference import MODELS
from mulcot_rd.reporting.cells import percent, without_intervals
from mulcot_rd.reporting.runs import RunMetrics
from mulcot_rd.reporting.sources import source_of_run, source_of_teacher
from mulcot_rd.reporting.writers import ReportTable

# What mulcot_rd.metrics.quality counts, in the order of the columns.
QUALITIES = (
    *("complete", "conclusion_entails", "conclusion_contradicts", "aspect_named"),
    *("quotes_grounded", "repeated_sentence", "repetition_4"),
)
JUDGED = "judged_entails"
SYSTEMS = ("teacher", *MODELS)
_NOTE = (
    "Percent of reasonings (quotes_grounded: of quotes; repetition_4: of 4-grams) with 95 percent bootstrap "
    "intervals. Counted by rules, docs/quality.md says how; that a reasoning convinces anybody, no count says. The row "
    "student_preference is no evidence of what its pairs were chosen by: docs/preference.md."
)
_JUDGE_NOTE = (
    "judged_entails is the share of judged conclusions that the teacher's server reads as the predicted label."
)


def quality_table(
    quality: Mapping[str, Mapping[str, Any] | None], metrics: Mapping[str, Any], dataset: str, run: str, scale: str
) -> ReportTable:
    """Lay out ``quality.json`` with a row a system and the interval beside every share.

    Args:
        quality: The file's contents: for each system what :func:`mulcot_rd.metrics.quality.quality_scores` and, where
            a judge was asked, :func:`~mulcot_rd.metrics.quality.judge_scores` give; ``None`` for a system that wrote
            nothing. Empty where the run is not on disk.
        metrics: The contents of ``metrics.json``, for who taught the run and on how much; may be empty.
        dataset: Name of the data set.
        run: Name of the run.
        scale: ``tiny`` or ``full``.

    Returns:
        The table in percent. A quality that no system has (aspects in coarse-grained sets, a judge that was not asked)
        has no column.

    Raises:
        ValueError: If the scale is unknown or a share is no fraction.
    """
    about = metrics.get("run", {})
    taught = source_of_teacher(about)
    written = _written(quality, {"run": run}, taught, source_of_run(scale, about))
    return _table(written, f"Qualities of the reasonings on the test split of {dataset}, run {run}, percent", ["run"])


def qualities_table(runs: Sequence[RunMetrics]) -> ReportTable:
    """The same of every run on disk: nothing that was measured is left out. A teacher that runs share has one row."""
    rows: list[tuple[dict[str, Any], Mapping[str, Any]]] = []
    teachers = []
    for run in runs:
        info = run.run
        for row, scores in _written(
            run.quality, {"dataset": info.dataset, "run": info.run}, run.teacher_source, info.source
        ):
            if row["written by"] == "teacher":
                shared = (info.dataset, info.teacher, info.of_posts, without_intervals(scores))
                if shared in teachers:
                    continue
                teachers.append(shared)
            rows.append((row, scores))
    return _table(rows, "Qualities of the reasonings of every run on its test split, percent", ["dataset", "run"])


def _written(
    quality: Mapping[str, Any], about: Mapping[str, str], taught: str, source: str
) -> list[tuple[dict[str, Any], Mapping[str, Any]]]:
    """Who wrote something in a run, and its qualities."""
    return [
        ({"written by": system, **about, "source": taught if system == "teacher" else source}, scores)
        for system in SYSTEMS
        if (scores := quality.get(system))
    ]


def _table(
    written: Sequence[tuple[dict[str, Any], Mapping[str, Any]]], caption: str, about: Sequence[str]
) -> ReportTable:
    shown = [name for name in (*QUALITIES, JUDGED) if any(scores.get(name) is not None for _, scores in written)]
    rows = []
    for row, scores in written:
        intervals = {**scores.get("intervals", {}), JUDGED: scores.get(f"{JUDGED}_interval")}
        row |= {"reasonings": scores.get("reasonings"), "quotes": scores.get("quotes"), "judged": scores.get("judged")}
        for name in shown:
            row[name] = percent(scores.get(name), name)
            row[_interval_column(name)] = interval_text(*ends) if (ends := intervals.get(name)) else None
        rows.append(row)
    counts = ["reasonings", "quotes", *(["judged"] if JUDGED in shown else [])]
    columns = [
        *("written by", *about, "source", *counts),
        *(column for name in shown for column in (name, _interval_column(name))),
    ]
    frame = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(counts, "Int64"))
    return ReportTable(frame, caption, f"{_NOTE} {_JUDGE_NOTE}" if JUDGED in shown else _NOTE)


def _interval_column(name: str) -> str:
    return f"{name} 95% interval"
