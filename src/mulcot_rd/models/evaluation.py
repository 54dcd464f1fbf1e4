"""What the evaluation of its run found of a trained model."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mulcot_rd.errors import UserError
from mulcot_rd.files import read_text
from mulcot_rd.kept import DamagedError, run_folder
from mulcot_rd.models.loaded import model_manifest
from mulcot_rd.versions import RECORD, newest
from mulcot_rd.yaml_reader import read_mapping


def evaluation_of(
    manifest: Mapping[str, Any], config: Mapping[str, Any], metrics: Mapping[str, Any]
) -> dict[str, Any] | None:
    """What metrics say of a model; ``None`` where they are of another one.

    Args:
        manifest: The model's.
        config: ``config.yml`` of the metrics, which names the models that were evaluated.
        metrics: Contents of ``metrics.json``.

    Returns:
        ``run`` (what names the run, and its teacher), ``dataset`` (posts a split) and ``scores``, as in the metrics.
    """
    role = manifest["role"]
    if config[role].get("fingerprint") != manifest["fingerprint"] or metrics[role] is None:
        return None
    return {"run": metrics["run"], "dataset": metrics["dataset"], "scores": metrics[role]}


def find_evaluation(folder: Path) -> dict[str, Any] | None:
    """What the newest metrics of a model say of it, where it lies in its run's folder; ``None`` where there are none.

    Args:
        folder: The model's folder, ``<root>/06_models/<dataset>/<run>/student`` or a version in it. The metrics are in
            ``<root>/08_reporting/<dataset>/<run>``. An exported model has them in its manifest.
    """
    manifest = model_manifest(folder)
    if "evaluation" in manifest:
        return manifest["evaluation"]
    run = run_folder(newest(folder))
    reports = run.parent.parent.parent / "08_reporting" / run.parent.name / run.name
    found = (evaluation_of(manifest, config, metrics) for config, metrics in _metrics(reports))
    return next((evaluation for evaluation in found if evaluation), None)


def _metrics(reports: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """``config.yml`` and ``metrics.json`` of every version of a run's metrics, newest first."""
    place = reports / "metrics.json"
    if place.is_file():
        yield _read(reports / "config.yml", place)
    for path in sorted(place.glob("*/metrics.json"), reverse=True):
        record = path.with_name(RECORD)
        # Releases without records did not say which parameters go with which metrics.
        if record.is_file():
            version = _json(record)["inputs"]["run_config"]["version"]
            yield _read(reports / "config.yml" / version / "config.yml", path)


def _read(config: Path, metrics: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    return read_mapping(read_text(config, UserError), str(config)), _json(metrics)


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedError(f"{path} is not valid JSON ({error}): run the pipeline evaluation again") from error
