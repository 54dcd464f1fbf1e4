"""Wiring of the pipeline data_expansion."""

from kedro.pipeline import Node, Pipeline

from mulcot_rd.pipelines.data_expansion.nodes import cache_soft_labels, join_training_set, write_assistant_reasoning


def create_pipeline() -> Pipeline:
    """Posts, teacher reasoning and assistant adapter -> assistant reasoning, student training set, soft labels."""
    return Pipeline(
        [
            Node(
                write_assistant_reasoning,
                inputs=[
                    "posts",
                    "captions",
                    "assistant_adapter",
                    "params:assistant",
                    "teacher_credentials",
                    "expansion_workspace",
                ],
                outputs=["assistant_reasoning", "assistant_rejected", "expansion_statistics"],
                name="write_assistant_reasoning",
            ),
            Node(
                join_training_set,
                inputs=["posts", "teacher_reasoning", "teacher_quarantine", "assistant_reasoning"],
                outputs="student_training_set",
                name="join_training_set",
            ),
            Node(
                cache_soft_labels,
                inputs=[
                    "posts",
                    "captions",
                    "student_training_set",
                    "assistant_adapter",
                    "params:assistant",
                    "params:soft_labels",
                    "soft_labels_workspace",
                ],
                outputs="soft_labels",
                name="cache_soft_labels",
            ),
        ]
    )
