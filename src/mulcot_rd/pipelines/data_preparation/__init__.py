"""Raw data sets to posts."""

from mulcot_rd.pipelines.data_preparation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
