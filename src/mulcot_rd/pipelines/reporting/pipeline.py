"""Wiring of the pipeline reporting."""

from kedro.pipeline import Node, Pipeline

from mulcot_rd.pipelines.reporting.nodes import (
    collect_paper_tables,
    draw_case_study,
    draw_training_curves,
    report_run,
    score_baselines,
)


def create_pipeline() -> Pipeline:
    """Metrics of every run on disk -> tables, figures."""
    return Pipeline(
        [
            Node(score_baselines, inputs=["posts", "params:run_settings"], outputs="baselines", name="score_baselines"),
            Node(
                report_run,
                inputs=["metrics", "baselines", "params:run_settings"],
                outputs="result_table",
                name="report_run",
            ),
            Node(
                draw_case_study,
                inputs=[
                    "posts",
                    "student_test",
                    "teacher_references",
                    "params:reporting",
                    "params:run_settings",
                ],
                outputs="case_study",
                name="draw_case_study",
            ),
            Node(
                draw_training_curves,
                inputs=["assistant_adapter", "student_adapter", "params:run_settings"],
                outputs="training_curves",
                name="draw_training_curves",
            ),
            Node(
                collect_paper_tables,
                inputs=["metrics", "reports_workspace"],
                outputs=["table_1", "table_3", "table_4", "table_5", "table_8"],
                name="collect_paper_tables",
            ),
        ]
    )
