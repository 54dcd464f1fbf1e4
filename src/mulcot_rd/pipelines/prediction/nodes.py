"""Nodes of the pipeline prediction."""

from typing import Any

from mulcot_rd.prediction.predict import PredictionPipelineParameters, judge_posts


def judge(prediction: PredictionPipelineParameters) -> list[dict[str, Any]]:
    """Let a trained model judge posts that have no label, as ``kedro predict`` does."""
    return judge_posts(prediction.posts, prediction.student, prediction.output, prediction)
