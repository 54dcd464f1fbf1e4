"""Nodes of the pipeline reporting."""

import random
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from mulcot_rd.errors import UserError
from mulcot_rd.frames import posts_from_frame
from mulcot_rd.parameters import RunParameters
from mulcot_rd.reporting.baselines import measure_baselines
from mulcot_rd.reporting.case_study import case_study
from mulcot_rd.reporting.collect import collect_tables
from mulcot_rd.reporting.figures import training_curves
from mulcot_rd.reporting.parameters import ReportingParameters
from mulcot_rd.reporting.tables import run_report
from mulcot_rd.reporting.writers import ReportTable
from mulcot_rd.schema import PredictionRecord, TeacherRecord
from mulcot_rd.training.roles import history_of


def score_baselines(posts: pd.DataFrame, run: RunParameters) -> dict[str, Any]:
    """Majority class and TF-IDF with logistic regression, on the same split as the models."""
    return measure_baselines(posts_from_frame(posts), run.seed)


def report_run(metrics: dict[str, Any], baselines: dict[str, Any], run: RunParameters) -> ReportTable:
    """The run's result table, measured beside published."""
    return run_report(metrics, baselines, run.dataset, run.name, run.scale)


def draw_case_study(
    posts: pd.DataFrame,
    student_test: list[PredictionRecord],
    teacher_references: list[TeacherRecord],
    reporting: ReportingParameters,
    run: RunParameters,
) -> Figure:
    """A few test posts with what the student wrote of them (Figure 4)."""
    by_id = {post.id: post for post in posts_from_frame(posts, "test")}
    answers = {record.id: record for record in student_test}
    references = {record.id: record for record in teacher_references}
    chosen = reporting.case_posts
    if chosen is None:
        chosen = random.Random(run.seed).sample(sorted(answers), min(reporting.cases, len(answers)))
    unknown = [post_id for post_id in chosen if post_id not in answers]
    if unknown:
        raise UserError(f"reporting.case_posts names {unknown[0]}, which is no post of the test split")
    cases = [(by_id[post_id], answers[post_id], references.get(post_id)) for post_id in chosen]
    return case_study(cases, f"{run.dataset}, {run.name}, student", run.scale)


def draw_training_curves(
    assistant_adapter: dict[str, Any], student_adapter: dict[str, Any], run: RunParameters
) -> Figure:
    """Losses of both tasks over steps and dev scores over epochs (compare Figure 5)."""
    rows = [
        {
            "role": adapter["role"],
            "epoch": row["epoch"],
            "step": row["step"],
            "label_loss": row.get("label_loss"),
            "reasoning_loss": row.get("reasoning_loss"),
            "validation_score": row.get("score"),
        }
        for adapter in (assistant_adapter, student_adapter)
        for row in history_of(Path(adapter["folder"]))
    ]
    return training_curves(rows, f"{run.dataset}, {run.name}", run.scale)


def collect_paper_tables(metrics: dict[str, Any], reports: Path) -> tuple[ReportTable, ...]:
    """The paper's tables from every run on disk; ``metrics`` orders this after the run at hand."""
    tables = collect_tables(reports)
    return tuple(tables[name] for name in ("table_1", "table_3", "table_4", "table_5", "table_8"))
