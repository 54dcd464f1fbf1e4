"""Every run that has metrics, with when and from what they were made, and two of them side by side."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pandas as pd
from kedro.io import DataCatalog, Version

from mulcot_rd.errors import UserError
from mulcot_rd.fingerprint import flat
from mulcot_rd.messages import nearest
from mulcot_rd.preference import MODELS, STUDENT_PREFERENCE
from mulcot_rd.reporting.cells import percent

# The scores that tell most of a run.
_SCORES = ("accuracy", "macro_f1", "sim")


@dataclass(frozen=True)
class RunOnDisk:
    """One version of a run's metrics.

    Attributes:
        name: Data set and run, as in ``sample/arch4-tiny-full``.
        version: The version.
        metrics: What it holds.
        config: The parameters that made it; empty where nothing says so.
        record: What it was made from (:mod:`mulcot_rd.lineage`); empty where nothing says so.
    """

    name: str
    version: str
    metrics: Mapping[str, Any]
    config: Mapping[str, Any]
    record: Mapping[str, Any]


def runs_on_disk(catalog: DataCatalog) -> list[RunOnDisk]:
    """Every version of the metrics of every run, in the order of data sets, runs and time.

    Args:
        catalog: The catalog of any run: the others lie beside it.
    """
    metrics: Any = catalog.get("metrics")
    config = catalog.get("run_config")
    root = metrics._filepath.parents[2]
    found = []
    for dataset in _folders(metrics, root):
        for place in _folders(metrics, dataset):
            for version in reversed(_at(metrics, place).list_versions(full_path=False)):
                record = _at(metrics, place).read_record(version)
                made_with = record.get("inputs", {}).get("run_config", {}).get("version")
                parameters = _at(config, place, made_with)
                # Without a record, only parameters that never changed are surely those of these metrics.
                known = parameters.exists() and (made_with or len(parameters.list_versions()) == 1)
                found.append(
                    RunOnDisk(
                        f"{dataset.name}/{place.name}",
                        version,
                        _at(metrics, place, version).load(),
                        parameters.load() if known else {},
                        record,
                    )
                )
    return found


def _folders(dataset: Any, path: PurePosixPath) -> list[PurePosixPath]:
    there = dataset._fs.ls(str(path), detail=True) if dataset._fs.isdir(str(path)) else []
    # A link to a folder is one.
    folders = (entry["name"] for entry in there if entry["type"] != "file" and dataset._fs.isdir(entry["name"]))
    return sorted(map(PurePosixPath, folders))


def _at(dataset: Any, folder: PurePosixPath, version: str | None = None) -> Any:
    """The same dataset of another run."""
    other = copy.copy(dataset)
    other._filepath, other._version = folder / dataset._filepath.name, Version(version, None)
    other._clear_version_cache()
    return other


def runs_table(runs: Sequence[RunOnDisk], changed: Callable[[Mapping[str, Any]], Sequence[str]]) -> pd.DataFrame:
    """A row a run: with which code it was made, its main scores in percent, and parameters other than the defaults.

    Args:
        runs: The runs.
        changed: Gives the parameters of a ``config.yml`` that differ from the defaults.
    """
    return pd.DataFrame(
        [
            {
                "run": run.name,
                "version": run.version,
                "mulcot_rd": run.record.get("mulcot_rd"),
                "commit": run.record.get("commit"),
                **_scores(run),
                "other than the defaults": "; ".join([*_trained_on(run), *changed(run.config)]),
            }
            for run in runs
        ]
    )


def two_runs(runs: Sequence[RunOnDisk], first: str, second: str) -> pd.DataFrame:
    """Two runs side by side: code, scores, every parameter that differs, and what each was made from.

    Args:
        runs: The runs on disk.
        first: ``DATASET/RUN:VERSION``; without a version it is the newest.
        second: The other one.

    Raises:
        UserError: If there is no such run.
    """
    pair = [_named(runs, name) for name in (first, second)]
    parameters = [flat(run.config) for run in pair]
    names = [name for name in {**parameters[0], **parameters[1]} if parameters[0].get(name) != parameters[1].get(name)]
    columns = [
        {
            "version": run.version,
            "mulcot_rd": run.record.get("mulcot_rd"),
            "commit": run.record.get("commit"),
            **_scores(run),
            **{name: values.get(name) for name in names},
            **{f"from {name}": _told(state) for name, state in run.record.get("inputs", {}).items()},
        }
        for run, values in zip(pair, parameters, strict=True)
    ]
    rows = {**columns[0], **columns[1]}
    return pd.DataFrame(
        {
            "": list(rows),
            **{
                f"{run.name}:{run.version}": [column.get(row) for row in rows]
                for run, column in zip(pair, columns, strict=True)
            },
        },
        dtype=object,
    )


def _scores(run: RunOnDisk) -> dict[str, float | None]:
    return {
        f"{model} {score}": percent((run.metrics.get(model) or {}).get(score), score)
        for model in MODELS
        # A run's own column only where it has such a student.
        if model != STUDENT_PREFERENCE or run.metrics.get(model)
        for score in _SCORES
    }


def _trained_on(run: RunOnDisk) -> list[str]:
    # Earlier versions did not say.
    place = run.metrics.get("run", {}).get("trained_on")
    return [] if place is None else [f"trained on {place}"]


def _told(state: Mapping[str, Any]) -> str:
    return f"{state['version'] or 'no versions'}, {state['fingerprint'][:12]}"


def _named(runs: Sequence[RunOnDisk], name: str) -> RunOnDisk:
    run, _, version = name.partition(":")
    found = [one for one in runs if one.name == run and version in ("", one.version)]
    if not found:
        there = [one.version for one in runs if one.name == run] or sorted({one.name for one in runs})
        raise UserError(f"there is no run {name}; {nearest(version if version and there else run, there)}")
    return found[-1]
