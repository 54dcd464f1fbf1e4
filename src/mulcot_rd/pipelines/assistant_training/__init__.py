"""Posts and the teacher's reasonings to the assistant's adapter (paper, Section 3.3.1)."""

from mulcot_rd.pipelines.assistant_training.pipeline import create_pipeline

__all__ = ["create_pipeline"]
