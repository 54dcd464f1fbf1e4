"""What was made of what: the record beside each version, and the chain from a version back to the posts."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from pydantic import BaseModel

from mulcot_rd import __version__
from mulcot_rd.credentials import recorded
from mulcot_rd.errors import UserError
from mulcot_rd.messages import nearest
from mulcot_rd.parameters import RunParameters

# The input of a node that tells what the metrics at hand were made of.
METRICS_LINEAGE = "metrics_lineage"


class Lineage:
    """Hooks that write down what each version is made from, and that refuse versions which can't go together."""

    def __init__(self) -> None:
        """Know no run yet."""
        self._run: dict[str, Any] = {}
        self._fingerprints: dict[tuple[str, str], str] = {}
        self._read: dict[str, dict[str, Any]] = {}

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Check the versions that are asked for, and take down which run this is."""
        check_load_versions(run_params["load_versions"] or {}, pipeline, catalog)
        if METRICS_LINEAGE in pipeline.inputs():
            catalog.save(METRICS_LINEAGE, [])
        run = RunParameters.model_validate(catalog.load("params:run_settings"))
        self._fingerprints, self._read = {}, {}
        self._run = {
            "run": {
                "dataset": run.dataset,
                "name": run.name,
                **({} if run.trained_on is None else {"student_run": run.student_run}),
            },
            "made": datetime.now().astimezone().isoformat(timespec="seconds"),
            "mulcot_rd": __version__,
            "commit": commit(Path(run_params["project_path"])),
        }

    @hook_impl
    def before_node_run(self, node: Node, catalog: DataCatalog, inputs: dict[str, Any]) -> dict[str, Any] | None:
        """Give the node's versioned outputs their record; a node that tells of the metrics' lineage gets it."""
        metrics: Any = catalog.get("metrics") if METRICS_LINEAGE in node.inputs else None
        if is_versioned(metrics) and metrics.exists():
            return {METRICS_LINEAGE: list(lineage(catalog, "metrics", metrics.resolve_load_version()))}
        outputs: list[Any] = [dataset for name in node.outputs if is_versioned(dataset := _dataset(catalog, name))]
        if not outputs:
            return None
        parameters = {name.removeprefix("params:"): value for name, value in inputs.items() if "params:" in name}
        read: dict[str, Any] = {}
        for name in node.inputs:
            state = self._state(name, catalog.get(name))
            # What a node of this run handed on in memory stands for what that node has read.
            read |= self._read.get(name, {}) if state is None else {name: state}
        self._read |= dict.fromkeys(node.outputs, read)
        record = {
            "node": node.name,
            **self._run,
            "inputs": read,
            "parameters": {
                name: recorded(value) if isinstance(value, BaseModel) else value for name, value in parameters.items()
            },
        }
        for dataset in outputs:
            dataset.record = record
        return None

    def _state(self, name: str, dataset: Any) -> dict[str, Any] | None:
        """The version and fingerprint of an input that is kept on disk; of optional ones that are missing nothing."""
        from mulcot_rd.datasets import SoftLabelsDataset
        from mulcot_rd.datasets.versioned import VersionedFiles

        kept = isinstance(dataset, VersionedFiles | SoftLabelsDataset)
        if not kept or not dataset.exists():
            return None
        if not is_versioned(dataset):
            return {"version": None, "fingerprint": dataset.fingerprint()}
        # A version never changes, so it is read once a run, however many nodes take it.
        key = name, dataset.resolve_load_version()
        if key not in self._fingerprints:
            self._fingerprints[key] = dataset.fingerprint()
        return {"version": key[1], "fingerprint": self._fingerprints[key]}


def check_load_versions(wanted: Mapping[str, str], pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Refuse versions that are not there, that the run makes anew, or that were made from others than it reads.

    Posts are left to the nodes: they tell whether what changed in them matters.

    Raises:
        UserError: With what to ask for.
    """
    for name, version in wanted.items():
        dataset = _dataset(catalog, name)
        if not is_versioned(dataset):
            raise UserError(f"--load-versions {name}:{version}: {name} has no versions")
        if name in pipeline.all_outputs():
            raise UserError(f"--load-versions {name}:{version}: this run makes {name}; run only pipelines that read it")
        _check_there(dataset, name, version)
    missing: dict[str, str] = {}
    read = pipeline.inputs() - {"posts"} if wanted else set()
    read = {name for name in read if is_versioned(catalog.get(name)) and catalog.exists(name)}
    for name, version in wanted.items():
        made_from = _made_from(catalog, name, version)
        for other in sorted(read & made_from.keys()):
            if made_from[other]["fingerprint"] != _dataset(catalog, other).fingerprint():
                missing[f"{other}:{made_from[other]['version']}"] = f"{name}:{version}"
    for other in sorted(read - wanted.keys()):
        _check_made_from(other, wanted, catalog, missing)
    if missing:
        raise UserError(
            f"{', '.join(sorted(set(missing.values())))} does not go with the newest version of what it was made "
            "from, or of what was made from it: "
            f"give --load-versions {','.join([*(f'{n}:{v}' for n, v in wanted.items()), *missing])}"
        )


def _made_from(catalog: DataCatalog, name: str, version: str) -> dict[str, dict[str, Any]]:
    """What a version was made from, by dataset, over however many steps; the nearest where there are several."""
    found: dict[str, dict[str, Any]] = {}
    steps = [(name, version)]
    for step, of_version in steps:
        for other, state in _dataset(catalog, step).read_record(of_version).get("inputs", {}).items():
            if other not in found:
                found[other] = state
                steps += [(other, state["version"])] if state["version"] is not None else []
    return found


def _check_made_from(name: str, wanted: Mapping[str, str], catalog: DataCatalog, missing: dict[str, str]) -> None:
    """Note which version of a dataset was made from the wanted ones, where the newest was not."""
    dataset = _dataset(catalog, name)
    made_from = dataset.read_record(dataset.resolve_load_version()).get("inputs", {})
    for source in sorted(wanted.keys() & made_from.keys()):
        if made_from[source]["fingerprint"] == _dataset(catalog, source).fingerprint():
            continue
        versions = dataset.list_versions(full_path=False)
        fits = [v for v in versions if _source(dataset.read_record(v), source) == wanted[source]]
        if not fits:
            raise UserError(
                f"--load-versions {source}:{wanted[source]}: no version of {name} was made from it; run the pipeline "
                f"that makes {name} with the same --load-versions first"
            )
        missing[f"{name}:{fits[0]}"] = f"{source}:{wanted[source]}"


def _source(record: Mapping[str, Any], name: str) -> str | None:
    return record.get("inputs", {}).get(name, {}).get("version")


def lineage(catalog: DataCatalog, name: str, version: str) -> Iterator[str]:
    """The chain from a version back to the posts, in lines of text; each version is told once.

    Args:
        catalog: The catalog of the version's run.
        name: Name of the dataset.
        version: The version.

    Raises:
        UserError: If there is no such version.
    """
    dataset = _dataset(catalog, name)
    if not is_versioned(dataset):
        raise UserError(f"{name} has no versions; choose a dataset that has, such as metrics")
    _check_there(dataset, name, version)
    run = RunParameters.model_validate(catalog.load("params:run_settings"))
    yield from _chain(catalog, name, {"version": version}, 0, set(), run.trained_on)


def _chain(
    catalog: DataCatalog,
    name: str,
    state: Mapping[str, Any],
    depth: int,
    told: set[tuple[str, str]],
    trained_on: str | None,
) -> Iterator[str]:
    indent, version = "  " * depth, state["version"]
    if version is None:
        yield f"{indent}{name} (no versions), fingerprint {state['fingerprint'][:12]}"
        return
    if (name, version) in told:
        yield f"{indent}{name} {version}, as above"
        return
    told.add((name, version))
    if name.endswith("_adapter") and trained_on is not None:
        yield f"{indent}{name} {version}, trained on {trained_on}: kedro lineage with that run's --params goes on"
        return
    record = _dataset(catalog, name).read_record(version)
    if not record:
        there = version in _dataset(catalog, name).list_versions(full_path=False)
        yield f"{indent}{name} {version}, {'made by a release that kept no records' if there else 'removed'}"
        return
    code = f"mulcot_rd {record['mulcot_rd']}" + (f", commit {record['commit']}" if record["commit"] else "")
    yield f"{indent}{name} {version}, by {record['node']}, {code}, fingerprint {record['fingerprint'][:12]}"
    for other, found in record["inputs"].items():
        yield from _chain(catalog, other, found, depth + 1, told, trained_on)


@cache
def commit(folder: Path) -> str | None:
    """The commit that a folder is at, with ``+changes`` where files differ from it; ``None`` without one."""
    git = shutil.which("git")
    if git is None:
        return None
    told = [
        subprocess.run([git, "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
        for arguments in (("rev-parse", "--short=12", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
    ]
    if told[0].returncode:
        return None
    return told[0].stdout.strip() + ("+changes" if told[1].stdout.strip() else "")


def _dataset(catalog: DataCatalog, name: str) -> Any:
    """A dataset; Kedro's type of it knows no versions and no records."""
    return catalog.get(name)


def where_results_lie(catalog: DataCatalog) -> tuple[Any, PurePosixPath]:
    """The file system of the results of all runs, and their folder there."""
    metrics: Any = catalog.get("metrics")
    return metrics._fs, metrics._filepath.parents[3]


def _check_there(dataset: Any, name: str, version: str) -> None:
    if version not in (there := dataset.list_versions(full_path=False)):
        raise UserError(f"there is no version {version} of {name}; {nearest(version, there)}")


def is_versioned(dataset: Any) -> bool:
    """Whether a dataset keeps versions."""
    # Imported here: most commands need no torch.
    from mulcot_rd.datasets.versioned import VersionedFiles

    return isinstance(dataset, VersionedFiles) and dataset._version is not None
