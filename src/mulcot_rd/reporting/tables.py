"""The result table of one run: baselines, teacher, assistant and student beside what the paper prints."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mulcot_rd.reporting.published import published_rows
from mulcot_rd.reporting.writers import ReportTable

MEASURED = "measured"
MEASURED_TINY = "measured (tiny model, random initial weights)"
PUBLISHED = "published"
OWN_METHOD = "MulCoT-RD"
RULES_TEACHER = "offline-rules"
# The variant of models as they come (starred rows of Tables 3 and 4).
ZERO_SHOT = "zero_shot"

CLASSIFICATION_METRICS = ("accuracy", "weighted_f1", "macro_f1", "valid_rate", "agreement")
REASONING_METRICS = ("sim", "meteor", "bleu", "rouge_l", "dist_1", "dist_2")
REFERENCE_METRICS = {"reference_dist_1": "dist_1", "reference_dist_2": "dist_2"}
INTERVAL_COLUMN = "accuracy 95% interval"
DIST_NOTE = (
    "Measured Dist-1/2 are those of the generated texts. The published ones are those of the reference texts, which is "
    "why the paper's Table 5 prints the same 49.8 and 80.2 for three different models on MVSA-Single: they compare "
    "with the reference_dist columns."
)

# Keys of the baselines and of the metrics, and the name of the row that each becomes.
_BASELINE_ROWS = {"majority": "majority class", "tfidf_logistic_regression": "TF-IDF + logistic regression"}
_MODEL_ROWS = {"assistant": "assistant", "student": "student"}
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
    if metrics and not any(metrics.get(role) for role in _MODEL_ROWS):
        raise ValueError(f"the metrics of run {run} on {dataset} hold no model: run the evaluation pipeline first")
    rows = [
        {"method": name, "source": _baseline_source(baselines[key]), **_measured(baselines[key])}
        for key, name in _BASELINE_ROWS.items()
        if key in baselines
    ]
    references = {
        column: percent(metrics["references"].get(name), column)
        for column, name in REFERENCE_METRICS.items()
        if metrics.get("references")
    }
    if metrics.get("teacher"):
        taught = f"{MEASURED}; {about['teacher']}" if about.get("teacher") else MEASURED
        rows.append({"method": "teacher (stage one)", "source": taught, **_measured(metrics["teacher"])})
    for key, name in _MODEL_ROWS.items():
        if metrics.get(key):
            rows.append({"method": name, "source": source, **_measured(metrics[key]), **references})
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
    source = source_of_run(
        scale, {name: about[name] for name in ("checkpoints", "served", "captions") if name in about}
    )
    return ReportTable(
        frame, f"Test split of {dataset}, run {run}: {source}, percent", f"{DIST_NOTE} {parameters}".strip()
    )


def source_of(
    scale: str,
    teacher: str | None = None,
    limit: int | None = None,
    checkpoints: Sequence[str] = (),
    served: str | None = None,
    captions: str | None = None,
) -> str:
    """How a figure of a model of this scale is named wherever it appears.

    Args:
        scale: ``tiny`` or ``full``.
        teacher: Who taught it; rules of thumb are named, a paper's teacher is the architecture's.
        limit: Posts a split that the run was limited to.
        checkpoints: Checkpoints that stood in for the architecture's own weights.
        served: The model of a server that answered in place of any local one; scale and checkpoints say nothing then.
        captions: Who wrote the captions that stood in place of images; rules of thumb are named.

    Raises:
        ValueError: If the scale is not ``tiny`` or ``full``.
    """
    names = {"tiny": MEASURED_TINY, "full": MEASURED}
    if scale not in names:
        raise ValueError(f"unknown scale {scale!r}: choose one of {', '.join(names)}")
    remarks = [names[scale] if served is None else f"{MEASURED}; {served}, served"]
    if checkpoints and served is None:
        remarks.append(f"models: {', '.join(checkpoints)}")
    if teacher is not None and RULES_TEACHER in teacher:
        remarks.append("taught by rules")
    if captions is not None and RULES_TEACHER in captions:
        remarks.append("captions by rules")
    if limit is not None:
        remarks.append(f"first {limit} posts a split")
    return "; ".join(remarks)


def source_of_run(scale: str, about: Mapping[str, Any]) -> str:
    """:func:`source_of` by the block ``run`` of a ``metrics.json``; it may lack what earlier versions did not write."""
    # Models that answer as they come were taught by nobody.
    teacher = None if about.get("variant") == ZERO_SHOT else about.get("teacher")
    return source_of(
        scale, teacher, about.get("limit"), about.get("checkpoints", ()), about.get("served"), about.get("captions")
    )


def percent(value: float | None, name: str) -> float | None:
    """A fraction in percent, to two decimals; ``None`` stays.

    Raises:
        ValueError: If the value is no fraction (Sim may be negative).
    """
    if value is None:
        return None
    if not (isinstance(value, float | int) and -1 <= value <= 1):
        raise ValueError(f"{name} is {value}: metrics are kept as fractions, 0 to 1")
    return round(100 * value, 2)


def interval_text(low: float, high: float) -> str:
    """The ends of an interval, in percent, as a cell of a table."""
    return f"{low:.1f} to {high:.1f}"


def _baseline_source(scores: Mapping[str, Any]) -> str:
    return f"not measured: {scores['not_measured']}" if "not_measured" in scores else MEASURED


def _measured(scores: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        name: percent(scores.get(name), name) for name in (*CLASSIFICATION_METRICS, *REASONING_METRICS)
    }
    if scores.get("accuracy_interval"):
        low, high = (percent(end, "accuracy_interval") for end in scores["accuracy_interval"])
        row[INTERVAL_COLUMN] = interval_text(low, high)
    return row
