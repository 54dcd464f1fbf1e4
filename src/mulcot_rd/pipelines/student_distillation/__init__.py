"""Training set and soft labels to the student's adapter (paper, Section 3.3.2)."""

from mulcot_rd.pipelines.student_distillation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
