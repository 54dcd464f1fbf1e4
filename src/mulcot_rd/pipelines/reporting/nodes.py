"""Nodes of the pipeline reporting.

What the run at hand has not written yet arrives empty (see :mod:`mulcot_rd.hooks`); the reports say so.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from mulcot_rd.errors import StaleInputError, UserError
from mulcot_rd.frames import posts_fingerprint, posts_from_frame
from mulcot_rd.models import custom_checkpoints
from mulcot_rd.parameters import RunParameters
from mulcot_rd.pipelines.posts import PostRecords, checked_posts
from mulcot_rd.preference import STUDENT_PREFERENCE
from mulcot_rd.reporting.baselines import measure_baselines
from mulcot_rd.reporting.collect import TABLES, collect_tables
from mulcot_rd.reporting.confidence import confidence_figure
from mulcot_rd.reporting.display import Html, Written, page, side_by_side
from mulcot_rd.reporting.drawing import note_figure
from mulcot_rd.reporting.figures import (
    CURVES,
    efficiency_figure,
    flan_t5_figure,
    loss_weights_figure,
    training_curves,
)
from mulcot_rd.reporting.histories import read_loss_histories
from mulcot_rd.reporting.parameters import ReportingParameters
from mulcot_rd.reporting.quality_tables import quality_table
from mulcot_rd.reporting.read import read_runs
from mulcot_rd.reporting.report import answers_section, drawn, report_page
from mulcot_rd.reporting.result_table import run_report
from mulcot_rd.reporting.run_config import changed_parameters, parameters_note, run_config
from mulcot_rd.reporting.sources import source_of
from mulcot_rd.reporting.writers import ReportTable
from mulcot_rd.schema import PredictionRecord, TeacherRecord
from mulcot_rd.training.train import history_of

_CHOOSE = (
    "Another run has its own: kedro run --pipeline reporting --params dataset=DATASET,run=NAME. Which posts are shown, "
    "reporting.case_posts says (a list of ids in conf/local/parameters.yml); without it reporting.cases are drawn."
)


def score_baselines(posts: pd.DataFrame, run: RunParameters) -> dict[str, Any]:
    """Score the majority class, and TF-IDF with logistic regression, on the same posts as the models."""
    return measure_baselines(posts_from_frame(posts), run.seed)


def report_run(
    metrics: dict[str, Any],
    baselines: dict[str, Any],
    posts: pd.DataFrame,
    config: dict[str, Any],
    default_parameters: dict[str, Any],
    run: RunParameters,
) -> ReportTable:
    """Lay out the run's results beside the published ones, with the parameters that differ from the defaults.

    Raises:
        StaleInputError: If the metrics are of other posts than those at hand, whose baselines would stand beside them.
    """
    # Earlier versions did not say which posts were scored.
    scored = metrics.get("run", {}).get("posts")
    if scored not in (None, posts_fingerprint(posts_from_frame(posts))):
        raise StaleInputError(
            f"metrics.json of run {run.name} on {run.dataset} is of other posts than those at hand: use the --params "
            "of its evaluation (limit), or run the pipeline evaluation again"
        )
    parameters = parameters_note(config, run_config(run, default_parameters, {}))
    return run_report(metrics, baselines, run.dataset, run.name, run.scale, parameters)


def report_quality(quality: dict[str, Any], metrics: dict[str, Any], run: RunParameters) -> ReportTable:
    """Lay out the qualities of the reasonings of teacher, assistant and student."""
    return quality_table(quality, metrics, run.dataset, run.name, run.scale)


def show_case_study(
    posts: pd.DataFrame,
    student_test: list[PredictionRecord],
    teacher_references: list[TeacherRecord],
    student_adapter: dict[str, Any],
    reporting: ReportingParameters,
    run: RunParameters,
    student_preference_test: Sequence[PredictionRecord] = (),
) -> str:
    """Show a few test posts with what teacher and students wrote of them, as a page of HTML (compare Figure 4)."""
    title = f"Figure 4, case study: {run.dataset}, {run.name}, student"
    if not student_test:
        told = "has answered no test post yet: kedro run --pipeline evaluation, with the --params of this run, asks it."
        return page(title, Html(f"The student of this run {told}"))
    by_id = {post.id: post for post in checked_posts(posts, {"student_test": student_test})}
    answered = sorted(record.id for record in student_test)
    chosen = reporting.case_posts
    if chosen is None:
        chosen = drawn(answered, reporting.cases, run.seed)
    unknown = [post_id for post_id in chosen if post_id not in answered]
    if unknown:
        raise UserError(f"reporting.case_posts names {unknown[0]}, which is no post of the test split")
    systems: dict[str, Written] = {
        "teacher": teacher_references,
        "student": student_test,
        STUDENT_PREFERENCE: student_preference_test,
    }
    shown = side_by_side([by_id[post_id] for post_id in chosen], systems)
    choose = Html(f"{shown.text}<p>{_CHOOSE}</p>")
    return page(f"{title}: {_source(run, student_adapter)}", choose)


def draw_training_curves(
    assistant_adapter: dict[str, Any],
    student_adapter: dict[str, Any],
    run: RunParameters,
    student_preference_adapter: dict[str, Any] | None = None,
) -> Figure:
    """Draw the losses of both tasks over steps, the dev scores, and the epoch that was kept (compare Figure 5).

    Of preference optimisation also the rewards, and the length of the reasonings on the dev split.
    """
    adapters = (assistant_adapter, student_adapter, student_preference_adapter)
    trained = [adapter for adapter in adapters if adapter and adapter["trained"]]
    rows = [
        {
            "role": adapter["role"],
            "epoch": row["epoch"],
            "step": row["step"],
            "validation_score": row.get("score"),
            **{name: row.get(name) for name in CURVES},
        }
        for adapter in trained
        for row in history_of(Path(adapter["folder"]))
    ]
    title = f"{run.dataset}, {run.name}"
    if not rows:
        return note_figure(title, "Nothing is trained yet: kedro run with the --params of this run trains its models.")
    kept = {adapter["role"]: adapter["best_epoch"] for adapter in trained}
    return training_curves(rows, title, _source(run, assistant_adapter, student_adapter), kept)


def draw_confidence(
    calibration: dict[str, Any], assistant_adapter: dict[str, Any], student_adapter: dict[str, Any], run: RunParameters
) -> Figure:
    """Draw how far the probabilities of the run's models can be trusted."""
    return confidence_figure(
        calibration, f"{run.dataset}, {run.name}", _source(run, assistant_adapter, student_adapter)
    )


def show_answers(
    posts: pd.DataFrame,
    assistant_test: list[PredictionRecord],
    student_test: list[PredictionRecord],
    teacher_references: list[TeacherRecord],
    metrics: dict[str, Any],
    reporting: ReportingParameters,
    run: RunParameters,
    student_preference_test: Sequence[PredictionRecord] = (),
) -> dict[str, Any]:
    """Gather what the run's page shows of answers: scores, confusion matrices, errors and modality conflicts."""
    answers: dict[str, Sequence[PredictionRecord]] = {
        "assistant": assistant_test,
        "student": student_test,
        STUDENT_PREFERENCE: student_preference_test,
    }
    # What is not on disk arrives as an empty mapping.
    references = list(teacher_references)
    records: PostRecords = {
        "teacher_references": references, **{f"{name}_test": list(made) for name, made in answers.items()}
    }  # fmt: skip
    return answers_section(
        checked_posts(posts, records),
        {name: made for name, made in answers.items() if made},
        references,
        metrics,
        scale=run.scale,
        most=reporting.report_posts,
        seed=run.seed,
    )


def show_origin(
    teacher_report: str,
    config: dict[str, Any],
    default_parameters: dict[str, Any],
    metrics: dict[str, Any],
    metrics_lineage: list[str],
    run: RunParameters,
) -> dict[str, Any]:
    """Gather what the run's page says of the teacher, the parameters, and what the metrics were made of.

    The metrics only order this behind them.
    """
    return {
        "teacher": teacher_report,
        "changed": changed_parameters(config, run_config(run, default_parameters, {})),
        "config": config,
        "lineage": metrics_lineage,
    }


def write_report(
    result_table: pd.DataFrame,
    quality_table: pd.DataFrame,
    training_curves: bytes,
    confidence_figure: bytes,
    answers: dict[str, Any],
    origin: dict[str, Any],
    run: RunParameters,
) -> str:
    """Put the run's reports together on one page of HTML."""
    tables = {
        "Beside baselines and the paper": result_table.drop(columns="run"),
        "Qualities of the reasonings, which need no reference": quality_table.drop(columns="run"),
    }
    figures = {"Training": training_curves, "Confidence": confidence_figure}
    return report_page(f"{run.dataset}, {run.name}", tables, figures, answers, origin)


def _source(run: RunParameters, *adapters: dict[str, Any]) -> str:
    """How numbers of the run's models are named; an adapter that is not on disk arrives empty."""
    models = [adapter["backbone"]["model"] for adapter in adapters if adapter]
    checkpoints = custom_checkpoints(models)
    return source_of(run.scale, limit=run.limit, checkpoints=checkpoints, trained_on=run.trained_on)


def collect_paper_tables(
    metrics: dict[str, Any], efficiency: dict[str, Any], reporting: ReportingParameters, reports: Path, outputs: Path
) -> tuple[ReportTable, ...]:
    """Lay out the paper's tables from every run on disk; the first two inputs only order this after the run at hand."""
    tables = collect_tables(reports, outputs, compare_with=reporting.compare_with, versions=reporting.versions)
    return tuple(tables[name] for name in TABLES)


def draw_paper_figures(
    metrics: dict[str, Any],
    efficiency: dict[str, Any],
    student_adapter: dict[str, Any],
    reports: Path,
    models: Path,
) -> tuple[Figure, ...]:
    """Draw Figures 3, 5 and 7 to 9 from every run on disk.

    The first three inputs only order this node after the run at hand.
    """
    runs = read_runs(reports)
    figures = [efficiency_figure(runs), loss_weights_figure(read_loss_histories(models))]
    return (*figures, *(flan_t5_figure(number, runs) for number in (7, 8, 9)))
