"""A student to a merged checkpoint with its model card."""

from mulcot_rd.pipelines.delivery.pipeline import create_pipeline

__all__ = ["create_pipeline"]
