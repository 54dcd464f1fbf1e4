"""Metrics of every run on disk to tables and figures."""

from mulcot_rd.pipelines.reporting.pipeline import create_pipeline

__all__ = ["create_pipeline"]
