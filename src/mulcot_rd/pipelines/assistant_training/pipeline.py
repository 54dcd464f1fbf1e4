"""Wiring of the pipeline assistant_training."""

from kedro.pipeline import Node, Pipeline

from mulcot_rd.pipelines.assistant_training.nodes import train_assistant_adapter
from mulcot_rd.pipelines.backbones import prepare_role


def create_pipeline() -> Pipeline:
    """Posts and teacher reasoning -> assistant adapter."""
    return Pipeline(
        [
            Node(
                prepare_role,
                inputs=[
                    "posts",
                    "captions",
                    "params:captions_needed",
                    "teacher_reasoning",
                    "teacher_quarantine",
                    "params:assistant_backbone",
                    "params:inputs",
                    "params:run_settings",
                    "assistant_base_workspace",
                ],
                outputs="assistant_base",
                name="prepare_assistant",
            ),
            Node(
                train_assistant_adapter,
                inputs=[
                    "posts",
                    "captions",
                    "params:captions_needed",
                    "teacher_reasoning",
                    "teacher_quarantine",
                    "assistant_base",
                    "params:assistant_backbone",
                    "params:assistant_training",
                    "params:generation",
                    "params:inputs",
                    "params:run_settings",
                    "params:method",
                    "assistant_workspace",
                ],
                outputs="assistant_adapter",
                name="train_assistant",
            ),
        ]
    )
