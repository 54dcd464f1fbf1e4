"""The trained assistant to more reasonings, soft labels and the student's training set (paper, Appendix A)."""

from mulcot_rd.pipelines.data_expansion.pipeline import create_pipeline

__all__ = ["create_pipeline"]
