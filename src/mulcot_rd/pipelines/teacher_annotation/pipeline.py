"""Wiring of the pipeline teacher_annotation."""

from kedro.pipeline import Node, Pipeline

from mulcot_rd.pipelines.teacher_annotation.nodes import annotate_posts


def create_pipeline() -> Pipeline:
    """Posts -> teacher reasoning (training split), teacher references (test split)."""
    return Pipeline(
        [
            Node(
                annotate_posts,
                inputs=["posts", "params:teacher", "teacher_credentials", "teacher_ledger", "params:run_settings"],
                outputs=[
                    "teacher_reasoning",
                    "teacher_references",
                    "teacher_quarantine",
                    "teacher_summary",
                    "teacher_report",
                ],
                name="annotate_posts",
            ),
        ]
    )
