"""Wiring of the pipeline preference_optimisation."""

from kedro.pipeline import Node, Pipeline

from mulcot_rd.pipelines.preference_optimisation.nodes import optimise_student


def create_pipeline() -> Pipeline:
    """Preference pairs and student adapter -> the preference-optimised student's adapter."""
    return Pipeline(
        [
            Node(
                optimise_student,
                inputs=[
                    "posts",
                    "captions",
                    "preference_pairs",
                    "student_adapter",
                    "params:student",
                    "params:preference",
                    "run_models_workspace",
                ],
                outputs="student_preference_adapter",
                name="optimise_student",
            ),
        ]
    )
