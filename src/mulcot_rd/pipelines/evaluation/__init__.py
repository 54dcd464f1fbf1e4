"""Adapters to predictions and metrics on the test split (paper, Section 4.3)."""

from mulcot_rd.pipelines.evaluation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
