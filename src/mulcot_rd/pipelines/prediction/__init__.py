"""Any posts and a student to verdicts."""

from mulcot_rd.pipelines.prediction.pipeline import create_pipeline

__all__ = ["create_pipeline"]
