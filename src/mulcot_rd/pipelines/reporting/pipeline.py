"""Wiring of the pipeline reporting."""

from kedro.pipeline import Node, Pipeline

from mulcot_rd.extras import extra
from mulcot_rd.pipelines import OPTIONAL_INPUTS
from mulcot_rd.reporting.collect import TABLES

with extra("report"):
    from mulcot_rd.pipelines.reporting.nodes import (
        collect_paper_tables,
        draw_confidence,
        draw_paper_figures,
        draw_training_curves,
        report_quality,
        report_run,
        score_baselines,
        show_answers,
        show_case_study,
        show_origin,
        write_report,
    )


def create_pipeline() -> Pipeline:
    """Metrics of every run on disk -> tables, figures."""
    return Pipeline(
        [
            Node(score_baselines, inputs=["posts", "params:run_settings"], outputs="baselines", name="score_baselines"),
            Node(
                report_run,
                inputs=[
                    "metrics",
                    "baselines",
                    "posts",
                    "run_config",
                    "default_parameters",
                    "params:run_settings",
                ],
                outputs="result_table",
                name="report_run",
            ),
            Node(
                report_quality,
                inputs=["quality", "metrics", "params:run_settings"],
                outputs="quality_table",
                name="report_quality",
            ),
            Node(
                show_case_study,
                inputs=[
                    "posts",
                    "student_test",
                    "teacher_references",
                    "student_adapter",
                    "params:reporting",
                    "params:run_settings",
                    "student_preference_test",
                ],
                outputs="case_study",
                name="show_case_study",
            ),
            Node(
                draw_training_curves,
                inputs=[
                    "assistant_adapter",
                    "student_adapter",
                    "params:run_settings",
                    "student_preference_adapter",
                ],
                outputs="training_curves",
                name="draw_training_curves",
            ),
            Node(
                draw_confidence,
                inputs=["calibration", "assistant_adapter", "student_adapter", "params:run_settings"],
                outputs="confidence_figure",
                name="draw_confidence",
            ),
            Node(
                show_answers,
                inputs=[
                    "posts",
                    "assistant_test",
                    "student_test",
                    "teacher_references",
                    "metrics",
                    "params:reporting",
                    "params:run_settings",
                    "student_preference_test",
                ],
                outputs="answers_shown",
                name="show_answers",
            ),
            Node(
                show_origin,
                inputs=[
                    "teacher_report",
                    "run_config",
                    "default_parameters",
                    "metrics",
                    "metrics_lineage",
                    "params:run_settings",
                ],
                outputs="origin_shown",
                name="show_origin",
            ),
            Node(
                write_report,
                inputs=[
                    "result_table",
                    "quality_table",
                    "training_curves",
                    "confidence_figure",
                    "answers_shown",
                    "origin_shown",
                    "params:run_settings",
                ],
                outputs="report",
                name="write_report",
            ),
            Node(
                collect_paper_tables,
                inputs=["metrics", "efficiency", "params:reporting", "all_reports", "all_outputs"],
                outputs=list(TABLES),
                name="collect_paper_tables",
            ),
            Node(
                draw_paper_figures,
                inputs=["metrics", "efficiency", "student_adapter", "all_reports", "all_models"],
                outputs=[f"figure_{n}" for n in (3, 5, 7, 8, 9)],
                name="draw_paper_figures",
            ),
        ],
        tags=OPTIONAL_INPUTS,
    )
