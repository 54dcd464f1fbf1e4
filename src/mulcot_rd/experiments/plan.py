"""What an experiment plan says: a YAML file of parameter grids, each of which stands for one or more runs."""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from mulcot_rd.credentials import without_password
from mulcot_rd.errors import UserError
from mulcot_rd.files import read_text
from mulcot_rd.pipeline_registry import STAGES
from mulcot_rd.schema import Record
from mulcot_rd.yaml_reader import read_yaml, typed_value

Scalar = str | int | float | bool | None


class PlanError(UserError):
    """A plan that can't be read; the message names the file, the entry and the cure."""


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class Grid(Record):
    """One entry of a plan: every combination of its values is a run."""

    parameters: dict[str, Annotated[list[Scalar], BeforeValidator(_as_list), Field(min_length=1)]] = Field(
        {}, description="Parameter, as after --params, to one value or a list of values"
    )
    stages: list[str] | None = Field(None, min_length=1, description="Pipelines to run, in order; null runs them all")


class Plan(Record):
    """A plan file. The runs' order is the file's order; a run that occurs twice is done once."""

    parameters: dict[str, Scalar] = Field({}, description="Parameters of every run; an entry's own come before them")
    env: str | None = Field(None, description="Kedro environment of all runs; null is the default one")
    runs: list[Grid] = Field(min_length=1, description="Entries, each a grid")


@dataclass(frozen=True)
class PlannedRun:
    """One run of a plan.

    Attributes:
        parameters: What is given after ``--params``.
        stages: Pipelines to run, in order.
        env: Kedro environment, or ``None`` for the default one.
    """

    parameters: dict[str, Scalar]
    stages: tuple[str, ...]
    env: str | None

    @property
    def params_option(self) -> str:
        """The parameters as Kedro's command line takes them."""
        return ",".join(f"{name}={_spelled(name, value)}" for name, value in self.parameters.items())

    @property
    def shown(self) -> str:
        """The parameters as they may be printed."""
        return without_password(self.params_option)


def read_plan(path: Path) -> list[PlannedRun]:
    """The runs of a plan file, in order, each once.

    Raises:
        PlanError: If the file is missing, no YAML, or no plan; the message names the entry.
    """
    if not path.is_file():
        raise PlanError(f"there is no plan {path}: name a YAML file such as .kedro/experiments/sample.yml")
    try:
        plan = Plan.model_validate(read_yaml(read_text(path, PlanError), str(path)))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(piece + 1) if isinstance(piece, int) else piece for piece in fault["loc"]) or "the file"
        raise PlanError(f"{path}, {where}: {fault['msg'].lower()}") from error
    runs: dict[tuple[Any, ...], PlannedRun] = {}
    for number, grid in enumerate(plan.runs, start=1):
        stages = tuple(grid.stages or STAGES)
        for stage in stages:
            if stage not in STAGES:
                raise PlanError(f"{path}, runs.{number}: there is no pipeline {stage}; there are: {', '.join(STAGES)}")
        for values in itertools.product(*grid.parameters.values()):
            parameters = {**plan.parameters, **dict(zip(grid.parameters, values, strict=True))}
            for name, value in parameters.items():
                if isinstance(value, str) and ("," in value or "=" in value):
                    raise PlanError(
                        f"{path}, runs.{number}: {name}: {value!r} holds a comma or an equals sign, which the command "
                        "line can't take: put it into an environment under conf and name that with env"
                    )
            run = PlannedRun(parameters, stages, plan.env)
            runs.setdefault((tuple(sorted(parameters.items())), stages), run)
    return list(runs.values())


def _spelled(name: str, value: Scalar) -> str:
    """A value as the command line reads it back; text that looks like something else is quoted."""
    if isinstance(value, str):
        return value if typed_value(name, value) == value else json.dumps(value, ensure_ascii=False)
    return json.dumps(value)
