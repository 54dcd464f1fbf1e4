"""Reading the runs on disk: of each the newest version, or one that is asked for with what belongs to it."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mulcot_rd.errors import UserError
from mulcot_rd.files import read_bytes, read_text
from mulcot_rd.messages import nearest
from mulcot_rd.reporting.runs import Expansion, ModelCost, PairCounts, RunMetrics, Scores
from mulcot_rd.schema import PredictionRecord
from mulcot_rd.versions import RECORD, newest

logger = logging.getLogger(__name__)

# Inputs that grow with other runs: whether that matters, nodes find out.
_OF_THE_DATASET = {"posts", "captions"}
# Files beside metrics.json, by name: what each holds, and the pipeline that writes it.
_BESIDE: dict[str, tuple[TypeAdapter[Any], str]] = {
    "efficiency": (TypeAdapter(dict[str, ModelCost]), "evaluation"),
    "quality": (TypeAdapter(dict[str, Scores | None]), "evaluation"),
    "expansion": (TypeAdapter(Expansion), "data_expansion"),
    "preference": (TypeAdapter(PairCounts), "preference_pairs"),
}


@contextmanager
def left_out(what: str) -> Iterator[None]:
    """Go on where a file of some run can't be used; the log says what is left out, and names the file and the cure."""
    try:
        yield
    except ValueError as error:
        logger.warning("%s left out of the reports: %s", what, error)


def read_runs(folder: Path, outputs: Path | None = None, versions: Mapping[str, str] | None = None) -> list[RunMetrics]:
    """Read the metrics of every run below a folder, ``<dataset>/<run>/metrics.json``, in the order of their paths.

    A run whose files can't be read, or belong to another folder, is left out; the log names the file and the cure.

    Args:
        folder: Holds the reports of every run.
        outputs: Holds their predictions; without it the runs name none.
        versions: ``<dataset>/<run>`` to the version of its metrics to read, with what was made of the same predictions
            and models; of other runs the newest of everything is read.

    Raises:
        UserError: If there is no such version.
    """
    versions = versions or {}
    for name, version in versions.items():
        there = {path.parent.name for path in (folder / name).glob("metrics.json/*/metrics.json")}
        if version not in there:
            hint = nearest(version, there) if there else "kedro runs lists those that are there"
            raise UserError(f"reporting.versions: there is no version {version} of the metrics of {name}; {hint}")
    runs = []
    for path in sorted(folder.glob("*/*/metrics.json")):
        dataset, name = path.parts[-3:-1]
        with left_out(f"run {name} on {dataset}"):
            wanted = versions.get(f"{dataset}/{name}")
            file = newest(path) if wanted is None else path / wanted / path.name
            answers = sorted(outputs.glob(f"{dataset}/{name}/*_test.jsonl")) if outputs is not None else []
            runs.append(_read_run(path.parent, file, answers))
    return runs


def _read_run(folder: Path, file: Path, answers: list[Path]) -> RunMetrics:
    run: RunMetrics = _read(TypeAdapter(RunMetrics), file, "evaluation")
    if (run.run.dataset, run.run.run) != (folder.parent.name, folder.name):
        raise ValueError(f"{file} holds run {run.run.run} on {run.run.dataset}: move it to the folder of that run")
    beside = {name: folder / f"{name}.json" for name in _BESIDE}
    if file == newest(folder / "metrics.json"):
        found = {path.stem: newest(path) for path in answers}
        files = {name: newest(path) for name, path in beside.items()}
        info = run.run
    else:
        scored = _record(file).get("inputs", {})
        found = {path.stem: _version(path, scored[path.stem]["version"]) for path in answers if path.stem in scored}
        made_from = {name: value for one in (file, *found.values()) for name, value in _made_from(one).items()}
        files = {name: _made_from_the_same(path, made_from) for name, path in beside.items()}
        info = run.run.model_copy(update={"version": file.parent.name})
    read = {
        name: _read(kind, files[name], pipeline) for name, (kind, pipeline) in _BESIDE.items() if files[name].is_file()
    }
    return run.model_copy(update={**read, "run": info, "answers": found})


def _record(file: Path) -> dict[str, Any]:
    """What says how a version was made (:mod:`mulcot_rd.lineage`); empty where it has no record."""
    record = file.with_name(RECORD)
    return json.loads(read_bytes(record, ValueError)) if record.is_file() else {}


def _made_from(file: Path) -> dict[str, Any]:
    """The parameters that a version was made with, and the fingerprints of its inputs."""
    record = _record(file)
    inputs = {name: state["fingerprint"] for name, state in record.get("inputs", {}).items()}
    return {**record.get("parameters", {}), **inputs}


def _version(path: Path, version: str) -> Path:
    """A version, or the file at the path itself, which is then the only one."""
    return path if path.is_file() else path / version / path.name


def _made_from_the_same(path: Path, made_from: Mapping[str, Any]) -> Path:
    """The newest version of those inputs and parameters, as far as both name them; else no file that is there."""
    for file in sorted(path.glob(f"*/{path.name}"), reverse=True):
        own = _made_from(file)
        shared = (own.keys() & made_from.keys()) - _OF_THE_DATASET
        if shared and all(own[name] == made_from[name] for name in shared):
            return file
    return path / "none"


def read_predictions(run: RunMetrics) -> dict[str, list[PredictionRecord]]:
    """The test predictions of a run by model.

    A file that can't be read, or holds a line that is no prediction, is left out; the log names it and the cure.
    """
    found, whose = {}, f"answers of run {run.run.run} on {run.run.dataset}"
    if run.run.version is not None and not run.answers:
        logger.warning(
            "%s left out of the reports: nothing says which belong to its metrics of %s; choose another version in "
            "reporting.versions",
            whose,
            run.run.version,
        )
    for name, file in run.answers.items():
        with left_out(whose):
            found[name.removesuffix("_test")] = _read_answers(file)
    return found


def _read_answers(file: Path) -> list[PredictionRecord]:
    records = []
    text = read_text(file, ValueError).removesuffix("\n")
    # There is none of a model that a run does without.
    for number, line in enumerate(text.split("\n") if text else [], start=1):
        try:
            records.append(PredictionRecord.model_validate_json(line))
        except ValidationError as error:
            raise ValueError(
                f"{file}: line {number} is no prediction ({error.errors()[0]['msg']}): run the evaluation pipeline of "
                "it again"
            ) from error
    return records


def _read(kind: TypeAdapter[Any], file: Path, pipeline: str) -> Any:
    try:
        return kind.validate_json(read_bytes(file, ValueError))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(f"{file}: {place}: {first['msg']}; run the {pipeline} pipeline of it again") from error
