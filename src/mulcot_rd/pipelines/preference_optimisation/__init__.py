"""Preference pairs and the student to a student that prefers what is true of the post; not in the paper."""

from mulcot_rd.pipelines.preference_optimisation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
