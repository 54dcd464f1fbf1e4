"""Wiring of the pipeline preference_pairs."""

from kedro.pipeline import Node, Pipeline

from mulcot_rd.pipelines.preference_pairs.nodes import judge_samples, pair_reasonings, sample_student_reasonings


def create_pipeline() -> Pipeline:
    """Student adapter, what assistant and teacher got wrong -> preference pairs."""
    return Pipeline(
        [
            Node(
                sample_student_reasonings,
                inputs=[
                    "posts",
                    "captions",
                    "student_adapter",
                    "params:student",
                    "params:preference",
                    "teacher_credentials",
                    "preference_workspace",
                ],
                outputs="student_samples",
                name="sample_student_reasonings",
            ),
            Node(
                judge_samples,
                inputs=[
                    "posts",
                    "student_samples",
                    "params:preference",
                    "params:judge",
                    "teacher_credentials",
                    "teacher_ledger",
                ],
                outputs="judged_samples",
                name="judge_samples",
            ),
            Node(
                pair_reasonings,
                inputs=[
                    "posts",
                    "student_samples",
                    "judged_samples",
                    "assistant_rejected",
                    "teacher_reasoning",
                    "teacher_rejected",
                    "params:preference",
                ],
                outputs=["preference_pairs", "preference_statistics"],
                name="pair_reasonings",
            ),
        ]
    )
