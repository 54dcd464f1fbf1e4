"""Wiring of the pipeline prediction."""

from kedro.pipeline import Node, Pipeline

from mulcot_rd.pipelines.prediction.nodes import predict


def create_pipeline() -> Pipeline:
    """Any posts and a student -> verdicts."""
    inputs = ["params:prediction", "teacher_credentials"]
    return Pipeline([Node(predict, inputs=inputs, outputs="verdicts", name="predict_posts")])
