"""Wiring of the pipeline teacher_annotation."""

from kedro.pipeline import Node, Pipeline

from mulcot_rd.pipelines.teacher_annotation.nodes import annotate_posts, caption_posts


def create_pipeline() -> Pipeline:
    """Posts -> teacher reasoning (training split), teacher references (test split)."""
    return Pipeline(
        [
            Node(
                caption_posts,
                inputs=["posts", "params:teacher", "params:captions_needed", "teacher_credentials", "teacher_ledger"],
                outputs=["captions", "captions_quarantine"],
                name="caption_posts",
            ),
            Node(
                annotate_posts,
                inputs=[
                    "posts",
                    "captions",
                    "params:teacher",
                    "teacher_credentials",
                    "teacher_ledger",
                    "params:run_settings",
                ],
                outputs=[
                    "teacher_reasoning",
                    "teacher_rejected",
                    "teacher_references",
                    "teacher_quarantine",
                    "teacher_summary",
                    "teacher_report",
                ],
                name="annotate_posts",
            ),
        ]
    )
