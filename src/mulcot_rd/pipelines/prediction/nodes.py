"""Nodes of the pipeline prediction."""

from typing import Any

from mulcot_rd.prediction.predict import PredictionPipelineParameters, predict_posts


def predict(prediction: PredictionPipelineParameters) -> list[dict[str, Any]]:
    """Let a trained model answer for posts that have no label, as ``kedro predict`` does."""
    return predict_posts(prediction.posts, prediction.student, prediction.output, prediction)
