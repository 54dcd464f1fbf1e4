"""Posts to the teacher's reasonings (paper, Section 3.2)."""

from mulcot_rd.pipelines.teacher_annotation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
