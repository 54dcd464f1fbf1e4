"""The project's pipelines."""

from importlib import import_module
from typing import Any

from kedro.framework.project import find_pipelines
from kedro.pipeline import Pipeline
from kedro.validation.parameter_validator import ParameterValidator

STAGES = (
    "data_preparation",
    "teacher_annotation",
    "assistant_training",
    "data_expansion",
    "student_distillation",
    "preference_pairs",
    "preference_optimisation",
    "evaluation",
    "reporting",
)
# Pipelines that run when they are asked for.
ON_DEMAND = ("prediction", "delivery")


def register_pipelines() -> dict[str, Pipeline]:
    """The pipelines by name, and the stages in order as ``__default__``; Kedro asks for those it needs."""
    found = find_pipelines(raise_errors=True)
    named = {name: _folding(name, found[name]) for name in (*STAGES, *ON_DEMAND) if name in found}
    return {**named, "__default__": sum((named[name] for name in STAGES if name in named), start=Pipeline([]))}


def stage(name: str) -> Pipeline:
    """One pipeline, whether or not it was asked for."""
    return import_module(f"mulcot_rd.pipelines.{name}").create_pipeline()


def validated(parameters: dict[str, Any]) -> dict[str, Any]:
    """Parameters, each group as the class by which nodes take it.

    Raises:
        ParameterValidationError: If a class refuses its group.
    """
    return ParameterValidator({name: stage(name) for name in (*STAGES, *ON_DEMAND)}).validate_raw_params(parameters)


def _folding(name: str, pipeline: Pipeline) -> Pipeline:
    """The pipeline as one that kedro-viz can fold; datasets keep their names, so stages still meet in them."""
    return Pipeline(pipeline, namespace=name, prefix_datasets_with_namespace=False)
