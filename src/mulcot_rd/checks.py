"""Checks of what a user gives a run: names of parameters, choices, names of folders, pipelines and nodes."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kedro.framework.project import pipelines
from kedro.pipeline import Pipeline
from kedro.validation.exceptions import ParameterValidationError
from omegaconf import DictConfig

from mulcot_rd.config import CHOICES, ProjectConfigLoader, leaves, value_at
from mulcot_rd.errors import UserError
from mulcot_rd.messages import nearest
from mulcot_rd.pipeline_registry import ON_DEMAND, STAGES, stage, validated
from mulcot_rd.renamed import refuse_earlier_names


def check_parameters(loader: ProjectConfigLoader) -> None:
    """Check the names that an environment and the command line give, and the choices that select configuration.

    Raises:
        UserError: If a name is unknown (with the nearest known one) or one of an earlier version, a group is given one
            value, a choice does not exist, or one served model is to answer for two trained ones.
    """
    base, *environment = loader.layers("parameters")
    from_globals = {name: value for name, value in loader["globals"].items() if name in base}
    for layer in (base, from_globals, *environment, loader.runtime_params):
        refuse_earlier_names(leaves(layer))
    for layer in (*environment, loader.runtime_params):
        for name in layer:
            if name not in base and not str(name).startswith("_"):
                raise UserError(f'there is no parameter "{name}"; {nearest(name, base)}')
    _check_names_inside(base, environment, loader.runtime_params)
    parameters = loader.parameters()
    for name, group in CHOICES.items():
        if str(parameters[name]) not in parameters[group]:
            raise UserError(f"{name}={parameters[name]} does not exist; there are: {', '.join(parameters[group])}")
    given = loader.runtime_params
    known = loader.with_params({name: given[name] for name in CHOICES if name in given}).parameters()
    for path, value in leaves(given):
        name = ".".join(map(str, path))
        found = value_at(known, path)
        if isinstance(found, DictConfig) and value is not None and "${" not in str(value):
            raise UserError(f"{name}={value}: {name} is a group, give one of its parameters: {', '.join(found)}")
        for depth, piece in enumerate(path):
            there = value_at(known, path[:depth])
            there = there if isinstance(there, DictConfig) else {}
            if piece not in there:
                _check_read(loader, path[: depth + 1], nearest(piece, there))
                break
    _check_served(parameters)


def _check_names_inside(base: dict[str, Any], environment: list[dict[str, Any]], given: dict[str, Any]) -> None:
    """Check names that would change nothing: those in an entry of a choice, which nodes don't read, and derived ones.

    Raises:
        UserError: If one does.
    """
    for layer in (*environment, given):
        for name in layer.get("run_settings") or ():
            flat = "run" if name == "name" else name
            raise UserError(f"run_settings.{name} follows from other parameters: give {flat}")
    for layer in environment:
        for group in CHOICES.values():
            known = {name for entry in base[group].values() for name in entry or ()}
            for path, _ in leaves({group: layer.get(group) or {}}):
                if len(path) > 2 and path[2] not in known:
                    raise UserError(
                        f'there is no parameter "{".".join(map(str, path[:3]))}"; {nearest(path[2], known)}'
                    )


def _check_served(parameters: DictConfig) -> None:
    """Check that no served model answers both as assistant and as student where these are two trained models.

    Raises:
        UserError: If one does.
    """
    assistant, student = (parameters[role].generation for role in ("assistant", "student"))
    one = assistant.backend == student.backend == "served" and all(
        assistant.served[name] == student.served[name] for name in ("base_url", "model")
    )
    if one and parameters.method.trained and parameters.method.assistant:
        raise UserError(
            f"the served model {student.served.model} would answer as assistant and as student, which are two models: "
            "name the one that it is, by student.generation.backend, student.generation.served.base_url and "
            "student.generation.served.model in place of generation.*, or the same of the assistant"
        )


def _check_read(loader: ProjectConfigLoader, path: tuple[str, ...], hint: str) -> None:
    """Check that a name which the configuration does not list, such as an architecture of the user's own, has a use.

    Raises:
        UserError: If its group has no such parameter, or no pipeline reads anything that it changes.
        ParameterValidationError: If it makes a parameter invalid.
    """
    unknown = UserError(f'there is no parameter "{".".join(map(str, path))}"; {hint}')
    if not isinstance(path[-1], str):
        raise unknown
    parameters = loader["parameters"]
    try:
        validated(parameters)
    except ParameterValidationError as error:
        if re.search(rf"\b{re.escape(path[-1])}\n +Extra inputs", str(error)):
            raise unknown from error
        raise
    without = loader.with_params(_without(loader.runtime_params, path))["parameters"]
    inputs = {name for each in map(stage, (*STAGES, *ON_DEMAND)) for name in each.inputs()}
    read = {name.removeprefix("params:") for name in inputs if "params:" in name}
    if all(value_at(parameters, name.split(".")) == value_at(without, name.split(".")) for name in read):
        raise unknown


def _without(values: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    first, *rest = path
    if rest:
        return {**values, first: _without(values[first], tuple(rest))}
    return {name: value for name, value in values.items() if name != first}


def check_names(data: Path, dataset: str, run: str) -> None:
    """Check that a new folder's name differs from those beside it in more than case.

    Some file systems ignore case: there, or once the project is copied there, both would be one folder.

    Raises:
        UserError: If it does not.
    """
    for layer in sorted(data.glob("0*")):
        for folder, what, name in ((layer, "dataset", dataset), (layer / dataset, "run", run)):
            there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
            same = [other for other in there if other.casefold() == name.casefold()]
            if same and name not in there:
                raise UserError(
                    f"{what}={name}: {folder / same[0]} is there already, and names that differ in case alone share a "
                    f"folder on some file systems: write {same[0]}, or choose another name"
                )


def check_selection(options: Mapping[str, Any]) -> None:
    """Check that what ``kedro run`` is told to run exists.

    Args:
        options: The command's options.

    Raises:
        UserError: If a pipeline, node, tag, dataset or namespace does not exist, or nothing is left to run.
    """
    if "." not in (options["runner"] or "."):
        check_runner(options["runner"])
    names = options["pipelines"] or [options["pipeline"] or "__default__"]
    for name in names:
        if name not in (*STAGES, *ON_DEMAND, "__default__"):
            raise UserError(f"there is no pipeline {name}; {nearest(name, (*STAGES, *ON_DEMAND))}")
    chosen = {name: options[name] for name in _SELECTIONS if options[name]}
    if not chosen:
        return
    pipelines.set_requested(list(names))
    whole = sum((pipelines[name] for name in names), start=Pipeline([]))
    for name, given in chosen.items():
        option, known = _SELECTIONS[name]
        for one in given:
            if one not in (there := known(whole)):
                raise UserError(f"{option}: {', '.join(names)} has no {one}; {nearest(one, there)}")
    if "namespaces" in chosen:
        chosen["node_namespaces"] = chosen.pop("namespaces")
    try:
        whole.filter(**chosen)
    except ValueError as error:
        raise UserError(f"these options leave no node to run ({error}): leave one of them out") from error


def check_runner(runner: str) -> None:
    """Check that nodes run one at a time; the runner "None" is Kedro's default.

    Raises:
        UserError: If they don't.
    """
    if runner != "None" and "SequentialRunner" not in runner:
        raise UserError(
            "this project runs one node at a time, since a training uses all cores and the process's random "
            "numbers: leave --runner out; processes share a training by cluster.workers"
        )


def _nodes(pipeline: Pipeline) -> list[str]:
    return [node.name for node in pipeline.nodes]


def _tags(pipeline: Pipeline) -> Iterable[str]:
    return {tag for node in pipeline.nodes for tag in node.tags}


_SELECTIONS = {
    "node_names": ("--nodes", _nodes),
    "from_nodes": ("--from-nodes", _nodes),
    "to_nodes": ("--to-nodes", _nodes),
    "from_inputs": ("--from-inputs", Pipeline.datasets),
    "to_outputs": ("--to-outputs", Pipeline.datasets),
    "tags": ("--tags", _tags),
    "namespaces": ("--namespaces", lambda pipeline: {node.namespace for node in pipeline.nodes if node.namespace}),
}
