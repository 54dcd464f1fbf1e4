"""Wiring of the pipeline student_distillation."""

from kedro.pipeline import Node, Pipeline

from mulcot_rd.pipelines.student_distillation.nodes import distil_student_adapter


def create_pipeline() -> Pipeline:
    """Training set and soft labels -> student adapter."""
    return Pipeline(
        [
            Node(
                distil_student_adapter,
                inputs=[
                    "posts",
                    "captions",
                    "student_training_set",
                    "teacher_quarantine",
                    "soft_labels",
                    "params:student",
                    "run_models_workspace",
                ],
                outputs="student_adapter",
                name="distil_student",
            ),
        ]
    )
