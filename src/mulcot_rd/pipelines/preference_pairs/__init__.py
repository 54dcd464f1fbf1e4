"""Reasonings of student, assistant and teacher to pairs of a chosen and a rejected one; not in the paper."""

from mulcot_rd.pipelines.preference_pairs.pipeline import create_pipeline

__all__ = ["create_pipeline"]
