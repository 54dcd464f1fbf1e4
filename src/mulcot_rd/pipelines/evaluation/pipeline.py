"""Wiring of the pipeline evaluation."""

from kedro.pipeline import Node, Pipeline

from mulcot_rd.pipelines.evaluation.nodes import (
    describe_run,
    join_efficiency,
    measure_role_efficiency,
    predict_test_split,
    score_quality,
    score_run,
)


def create_pipeline() -> Pipeline:
    """Adapters and posts[test] -> predictions -> metrics, and what a prediction costs."""
    predictions = [
        Node(
            predict_test_split,
            inputs=[
                "posts",
                "captions",
                f"{role}_adapter",
                f"params:{role}",
                "teacher_credentials",
                "evaluation_workspace",
            ],
            outputs=f"{role}_test",
            name=f"predict_with_{role}",
        )
        for role in ("assistant", "student")
    ]
    efficiencies = [
        Node(
            measure_role_efficiency,
            inputs=[
                "posts",
                "captions",
                f"{role}_adapter",
                f"params:{role}",
                "params:efficiency",
            ],
            outputs=f"{role}_efficiency",
            name=f"measure_{role}_efficiency",
        )
        for role in ("assistant", "student")
    ]
    return Pipeline(
        [
            *predictions,
            *efficiencies,
            Node(
                join_efficiency,
                inputs=["assistant_efficiency", "student_efficiency"],
                outputs="efficiency",
                name="join_efficiency",
            ),
            Node(
                describe_run,
                inputs=[
                    "posts",
                    "captions",
                    "teacher_summary",
                    "student_training_set",
                    "expansion_statistics",
                    "params:assistant",
                    "params:student",
                    "params:run_settings",
                ],
                outputs="run_description",
                name="describe_run",
            ),
            Node(
                score_run,
                inputs=[
                    "posts",
                    "assistant_test",
                    "student_test",
                    "teacher_references",
                    "teacher_summary",
                    "run_description",
                    "params:run_settings",
                ],
                outputs="metrics",
                name="score_run",
            ),
            Node(
                score_quality,
                inputs=[
                    "assistant_test",
                    "student_test",
                    "teacher_references",
                    "posts",
                    "params:teacher",
                    "params:judge",
                    "teacher_credentials",
                    "teacher_ledger",
                    "params:run_settings",
                ],
                outputs="quality",
                name="score_quality",
            ),
        ]
    )
