"""Wiring of the pipeline prediction."""

from kedro.pipeline import Node, Pipeline

from mulcot_rd.pipelines.prediction.nodes import predict


def create_pipeline() -> Pipeline:
    """Any posts and a student -> verdicts."""
    return Pipeline([Node(predict, inputs="params:prediction", outputs="verdicts", name="predict_posts")])
