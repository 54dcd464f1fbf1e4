"""The result table of one run: baselines, teacher, assistant and student beside what the paper prints."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mulcot_rd.preference import MODELS
from mulcot_rd.reporting.cells import (
    CLASSIFICATION_METRICS,
    REASONING_METRICS,
    REFERENCE_METRICS,
    intervals,
    percent,
)
from mulcot_rd.reporting.published import DIST_NOTE, OWN_METHOD, published_rows
from mulcot_rd.reporting.sources import PUBLISHED, source_of_baseline, source_of_run, source_of_teacher, teacher_row
from mulcot_rd.reporting.writers import ReportTable

INTERVAL_COLUMN = "accuracy 95% interval"
# Keys of the baselines and of the metrics, and the name of the row that each becomes.
_BASELINE_ROWS = {
    "majority": "majority class",
    "tfidf_logistic_regression": "TF-IDF + logistic regression",
    "embeddings_logistic_regression": "sentence embeddings + logistic regression",
}
_COLUMNS = (
    *("method", "run", "source", "accuracy", INTERVAL_COLUMN),
    *CLASSIFICATION_METRICS[1:],
    *REASONING_METRICS,
    *REFERENCE_METRICS,
)


def result_table(
    metrics: Mapping[str, Any], baselines: Mapping[str, Mapping[str, Any]], dataset: str, run: str, scale: str
) -> pd.DataFrame:
    """Lay out what one run measured, in percent, with the published rows of the same data set below.

    Args:
        metrics: The contents of ``metrics.json``: scores of ``assistant`` and ``student`` as fractions and, where
            they were measured, of ``teacher`` (its stage one on the test split); each may hold ``accuracy_interval``
            (two fractions). ``references`` holds ``dist_1`` and ``dist_2`` of the reference texts. Empty where the run
            is not on disk: then the baselines stand beside the published rows alone.
        baselines: What :func:`mulcot_rd.reporting.baselines.measure_baselines` gives.
        dataset: Name of the data set.
        run: Name of the run.
        scale: ``tiny`` or ``full``.

    Returns:
        A row a method: ``method``, ``run``, ``source`` (measured, measured with a tiny model, or published), the
        metrics in percent and the 95 percent interval of the accuracy as text. What is unknown is missing.

    Raises:
        ValueError: If the metrics hold neither assistant nor student, the scale is unknown, or a score is no fraction.
    """
    about = metrics.get("run", {})
    source = source_of_run(scale, about)
    if metrics and not any(metrics.get(role) for role in MODELS):
        raise ValueError(f"the metrics of run {run} on {dataset} hold no model: run the evaluation pipeline first")
    rows = [
        {"method": name, "source": _baseline_source(baselines[key], about), **_measured(baselines[key])}
        for key, name in _BASELINE_ROWS.items()
        if key in baselines
    ]
    references = {
        column: percent(metrics["references"].get(name), column)
        for column, name in REFERENCE_METRICS.items()
        if metrics.get("references")
    }
    if metrics.get("teacher"):
        taught = source_of_teacher(about)
        rows.append(
            {
                "method": teacher_row(about.get("teacher_provider"), "stage one"),
                "source": taught,
                **_measured(metrics["teacher"]),
            }
        )
    for name in MODELS:
        if metrics.get(name):
            rows.append({"method": name, "source": source, **_measured(metrics[name]), **references})
    rows = [{**row, "run": run} for row in rows]
    printed = published_rows(dataset, (3, 4, 5, 7))
    own = printed[printed["method"].astype(str).str.startswith(OWN_METHOD)]
    rows += [{**row, "source": PUBLISHED} for row in own.to_dict("records")]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def run_report(
    metrics: Mapping[str, Any],
    baselines: Mapping[str, Mapping[str, Any]],
    dataset: str,
    run: str,
    scale: str,
    parameters: str = "",
) -> ReportTable:
    """The table of :func:`result_table` with its caption, what a reader must know, and a note on its parameters."""
    frame = result_table(metrics, baselines, dataset, run, scale)
    about = metrics.get("run", {})
    # Who taught it, the rows say.
    source = source_of_run(scale, {name: value for name, value in about.items() if name != "teacher"})
    return ReportTable(
        frame, f"Test split of {dataset}, run {run}: {source}, percent", f"{DIST_NOTE} {parameters}".strip()
    )


def _baseline_source(scores: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    return f"not measured: {scores['not_measured']}" if "not_measured" in scores else source_of_baseline(about)


def _measured(scores: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        name: percent(scores.get(name), name) for name in (*CLASSIFICATION_METRICS, *REASONING_METRICS)
    }
    return row | {INTERVAL_COLUMN: intervals(scores).get("accuracy")}
