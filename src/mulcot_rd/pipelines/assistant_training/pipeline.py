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
                    "params:captions_needed",
                    "teacher_reasoning",
                    "teacher_quarantine",
                    "params:assistant_backbone",
                    "params:assistant_training",
                    "params:generation",
                    "params:inputs",
                    "params:run_settings",
                    "params:method",
                    "run_models_workspace",
                ],
                outputs="assistant_adapter",
                name="train_assistant",
            ),
        ]
    )
