"""Nodes of the pipeline prediction."""

from typing import Any

from mulcot_rd.credentials import Credentials
from mulcot_rd.prediction.predict import PredictionPipelineParameters, predict_posts


def predict(prediction: PredictionPipelineParameters, credentials: Credentials) -> list[dict[str, Any]]:
    """Let a trained model answer for posts that have no label, as ``kedro predict`` does."""
    api_key = credentials.api_key(prediction.generation.served.base_url)
    return predict_posts(prediction.posts, prediction.student, prediction.output, prediction, api_key)
