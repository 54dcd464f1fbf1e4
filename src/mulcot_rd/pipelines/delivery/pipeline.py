"""Wiring of the pipeline delivery."""

from kedro.pipeline import Node, Pipeline

from mulcot_rd.pipelines.delivery.nodes import merge_student


def create_pipeline() -> Pipeline:
    """Student and its metrics -> merged checkpoint and model card."""
    return Pipeline(
        [
            Node(
                merge_student,
                inputs=[
                    "student_adapter",
                    "run_config",
                    "metrics",
                    "run_models_workspace",
                    "student_preference_adapter",
                ],
                outputs="student_merged",
                name="merge_student",
            )
        ]
    )
