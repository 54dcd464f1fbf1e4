"""Wiring of the pipeline evaluation."""

from kedro.pipeline import Node, Pipeline

from mulcot_rd.pipelines.evaluation.nodes import (
    calibrate_models,
    measure_costs,
    predict_test_split,
    record_config,
    score_quality,
    score_run,
)
from mulcot_rd.preference import STUDENT_PREFERENCE

# Both models with their posts, handed on in memory.
_MODELS = ("assistant_evaluated", "student_evaluated")
# The student after preference optimisation is asked as the student is.
_PARAMETERS_OF = {"assistant": "assistant", "student": "student", STUDENT_PREFERENCE: "student"}


def create_pipeline() -> Pipeline:
    """Adapters and posts[test] -> predictions -> metrics, and what a prediction costs."""
    return Pipeline(
        [
            *(_predict(model) for model in _PARAMETERS_OF),
            Node(
                calibrate_models,
                inputs=[*_MODELS, "params:run_settings", "student_preference_evaluated"],
                outputs=["calibration", "temperatures"],
                name="calibrate_models",
            ),
            Node(
                record_config,
                inputs=[
                    "teacher_summary",
                    "assistant_adapter",
                    "expansion_statistics",
                    "student_adapter",
                    "parameters",
                    "params:run_settings",
                    "preference_statistics",
                    "student_preference_adapter",
                ],
                outputs="run_config",
                name="record_config",
            ),
            Node(
                score_run,
                inputs=[
                    "posts",
                    "captions",
                    "assistant_test",
                    "student_test",
                    "teacher_references",
                    "teacher_summary",
                    "run_config",
                    "calibration",
                    "student_preference_test",
                ],
                outputs="metrics",
                name="score_run",
            ),
            Node(
                score_quality,
                inputs=[
                    "posts",
                    "assistant_test",
                    "student_test",
                    "teacher_references",
                    "params:judge",
                    "teacher_credentials",
                    "teacher_ledger",
                    "student_preference_test",
                ],
                outputs="quality",
                name="score_quality",
            ),
            Node(
                measure_costs,
                inputs=[*_MODELS, "params:efficiency", "evaluation_workspace"],
                outputs="efficiency",
                name="measure_costs",
            ),
        ]
    )


def _predict(model: str) -> Node:
    return Node(
        predict_test_split,
        inputs=[
            "posts",
            "captions",
            f"{model}_adapter",
            f"params:{_PARAMETERS_OF[model]}",
            "params:run_settings",
            "teacher_credentials",
            "evaluation_workspace",
        ],
        outputs=[f"{model}_test", f"{model}_evaluated"],
        name=f"predict_with_{model}",
    )
