"""Wiring of the pipeline assistant_training."""

from kedro.pipeline import Node, Pipeline

from mulcot_rd.pipelines.assistant_training.nodes import train_assistant_adapter


def create_pipeline() -> Pipeline:
    """Posts and teacher reasoning -> assistant adapter."""
    return Pipeline(
        [
            Node(
                train_assistant_adapter,
                inputs=[
                    "posts",
                    "captions",
                    "teacher_reasoning",
                    "teacher_quarantine",
                    "params:assistant",
                    "run_models_workspace",
                ],
                outputs="assistant_adapter",
                name="train_assistant",
            ),
        ]
    )
