"""Which versions there are, what still refers to each, and the removal of those that nothing does."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from fsspec import AbstractFileSystem
from kedro.io import DataCatalog

from mulcot_rd.datasets.versioned import VersionedFiles, record_at
from mulcot_rd.kept import MANIFEST
from mulcot_rd.lineage import where_results_lie
from mulcot_rd.parameters import RunParameters
from mulcot_rd.preference import MODELS
from mulcot_rd.versions import RECORD

# The layers that hold versions.
_LAYERS = ("03_primary", "05_model_input", "06_models", "07_model_output", "08_reporting")
_VERSION = re.compile(r"\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\d\.\d{3}Z")


@dataclass(frozen=True)
class StoredVersion:
    """A version on disk.

    Attributes:
        path: Its dataset's path below ``results_root``, such as ``06_models/sample/arch4-tiny-full/student``.
        version: The version.
        size: Bytes that its removal frees: files that are linked elsewhere, too, count nothing.
        needed: Whether it is the newest one, or one that such a version was made from, over however many steps.
        referred_by: The versions that were made from it, each as ``path:version``.
    """

    path: str
    version: str
    size: int
    needed: bool
    referred_by: tuple[str, ...]

    @property
    def name(self) -> str:
        """What names it."""
        return f"{self.path}:{self.version}"


def stored_versions(catalog: DataCatalog) -> list[StoredVersion]:
    """Every version at ``results_root``, of all data sets and runs, in the order of paths and time.

    Args:
        catalog: The catalog of any run: the others lie beside it.
    """
    run = RunParameters.model_validate(catalog.load("params:run_settings"))
    results, root = where_results_lie(catalog)
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
    for layer in _LAYERS:
        for path, info in _files(results, str(root / layer)).items():
            parts = PurePosixPath(path).relative_to(root).parts
            level = next((number for number, part in enumerate(parts) if _VERSION.fullmatch(part)), None)
            if level is not None:
                found["/".join(parts[:level]), parts[level]]["/".join(parts[level + 1 :])] = info
    # What a kill left behind is no version: it may belong to a run that is going on.
    whole = {key: files for key, files in sorted(found.items()) if _is_whole(PurePosixPath(key[0]).name, files)}
    made_from = {key: set[tuple[str, str]]() for key in whole}
    for key, files in whole.items():
        if RECORD in files:
            record = record_at(results, files[RECORD]["name"])
            paths = _paths(catalog, root, run, record["run"])
            made_from[key] = {
                (paths[name], state["version"]) for name, state in record["inputs"].items() if name in paths
            }
            # Older metrics that a table of all runs was asked for.
            asked = record["parameters"].get("reporting", {}).get("versions", {})
            made_from[key] |= {(f"08_reporting/{name}/metrics.json", version) for name, version in asked.items()}
    needed = set({path: (path, version) for path, version in whole}.values())
    while more := {source for key in needed for source in made_from.get(key, ())} - needed:
        needed |= more
    return [
        StoredVersion(
            *key,
            size=sum(info["size"] for info in files.values() if info.get("nlink", 1) == 1),
            needed=key in needed,
            referred_by=tuple(":".join(other) for other, sources in made_from.items() if key in sources),
        )
        for key, files in whole.items()
    ]


def remove(catalog: DataCatalog, versions: Sequence[StoredVersion]) -> None:
    """Remove versions from where results lie."""
    results, root = where_results_lie(catalog)
    for one in versions:
        results.rm(str(root / one.path / one.version), recursive=True)


def _files(results: AbstractFileSystem, folder: str) -> dict[str, dict[str, Any]]:
    """All files below a folder, also those below links to other folders, which fsspec takes for files."""
    found = results.find(folder, detail=True)
    links = [path for path, info in found.items() if info.get("islink") and results.isdir(path)]
    return found | {path: info for link in links for path, info in _files(results, link).items()}


def _is_whole(name: str, files: dict[str, Any]) -> bool:
    return not files.keys().isdisjoint((name, f"{name}.csv", f"{name}/{MANIFEST}"))


def _paths(catalog: DataCatalog, root: PurePosixPath, at_hand: RunParameters, run: dict[str, str]) -> dict[str, str]:
    """Where the datasets with versions of another run lie, by their names."""
    own, others = (at_hand.dataset, at_hand.name), (run["dataset"], run["name"])
    paths: dict[str, str] = {}
    for name in catalog:
        dataset = catalog.get(name)
        if isinstance(dataset, VersionedFiles) and dataset._filepath.is_relative_to(root):
            layer, *folders, last = dataset._filepath.relative_to(root).parts
            # By their places: a data set and a run may have the same name.
            placed = zip(folders, own, others, strict=False)
            theirs = [other if folder == mine else folder for folder, mine, other in placed]
            paths[name] = "/".join([layer, *theirs, last])
    trained = run.get("student_run", f"{run['dataset']}/{run['name']}")
    return paths | {f"{role}_adapter": f"06_models/{trained}/{role}" for role in MODELS}
