"""Wiring of the pipeline evaluation."""

from kedro.pipeline import Node, Pipeline

from mulcot_rd.pipelines.evaluation.nodes import (
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
                "params:captions_needed",
                f"{role}_adapter",
                f"params:{role}_backbone",
                "params:generation",
                "params:inputs",
                "params:run_settings",
                "params:method",
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
                "params:captions_needed",
                f"{role}_adapter",
                f"params:{role}_backbone",
                "params:generation",
                "params:inputs",
                "params:efficiency",
                "params:run_settings",
                "params:method",
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
                score_run,
                inputs=[
                    "assistant_test",
                    "student_test",
                    "teacher_references",
                    "expansion_figures",
                    "student_training_set",
                    "posts",
                    "captions",
                    "params:captions_needed",
                    "teacher_summary",
                    "params:assistant_backbone",
                    "params:student_backbone",
                    "params:generation",
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
