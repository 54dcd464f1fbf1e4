"""Wiring of the pipeline prediction."""

from kedro.pipeline import Node, Pipeline

from mulcot_rd.pipelines.prediction.nodes import judge


def create_pipeline() -> Pipeline:
    """Any posts and a student -> verdicts."""
    return Pipeline([Node(judge, inputs="params:prediction", outputs="verdicts", name="judge_posts")])
