"""The training losses of the models on disk, for Figure 5."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from mulcot_rd.errors import UserError
from mulcot_rd.files import read_bytes
from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.kept import MANIFEST, read_manifest
from mulcot_rd.models import custom_checkpoints
from mulcot_rd.reporting.read import left_out
from mulcot_rd.reporting.sources import source_of
from mulcot_rd.training.objective import TaskWeights
from mulcot_rd.training.train import history_of
from mulcot_rd.versions import newest


@dataclass(frozen=True)
class LossHistory:
    """The training losses of one model, for Figure 5.

    Attributes:
        dataset: Name of the data set.
        run: The run's name without its variant and seed: histories that share it differ in their weights.
        role: "assistant" or "student".
        source: How its numbers are named.
        weights: Of the reasoning and of the label task.
        rows: ``step``, ``reasoning_loss`` and ``label_loss`` (nats a target token) in the order of steps.
        made_from: Equal for trainings that differ in their weights alone.
    """

    dataset: str
    run: str
    role: str
    source: str
    weights: tuple[float, float]
    rows: Sequence[Mapping[str, Any]]
    made_from: str = ""


class _Backbone(BaseModel):
    model: str | None


class _Manifest(BaseModel):
    """A ``manifest.json`` as far as Figure 5 needs it; models that are not trained have no weights."""

    role: str
    backbone: _Backbone
    task_weights: TaskWeights | None = None
    made_from: dict[str, Any] = Field(default_factory=dict)


class _Losses(BaseModel):
    """A row of a ``history.jsonl`` with losses; those of epochs hold scores alone."""

    step: int
    reasoning_loss: float | None
    label_loss: float | None


def read_loss_histories(models: Path) -> list[LossHistory]:
    """The histories of all trained models, of the authors' seed and of variants that only weigh the tasks.

    Args:
        models: Folder with ``<dataset>/<run>/<role>/manifest.json`` (``data/06_models``). A model whose files can't be
            read is left out; the log names the file and the cure.
    """
    histories = []
    for folder in sorted(models.glob("*/*/*")):
        dataset, run = folder.parts[-3], folder.parts[-2]
        file = newest(folder) / MANIFEST
        if not file.is_file():
            continue
        if named := re.fullmatch(r"(arch\d+-(?:tiny|full))-(?:full|weights_\w+)", run):
            with left_out(f"losses of run {run} on {dataset}"):
                assistant = read_manifest(newest(folder.parent / "assistant")) or {}
                histories += _read(file, dataset, named[1], assistant.get("made_from", {}).get("training_rows"))
    return histories


def _read(file: Path, dataset: str, run: str, taught: str | None) -> list[LossHistory]:
    """The history beside a manifest, if its model was trained; ``taught`` is a hash of what the teacher wrote."""
    try:
        manifest = _Manifest.model_validate_json(read_bytes(file, UserError))
        if manifest.task_weights is None:
            return []
        rows = [_Losses.model_validate(row).model_dump() for row in history_of(file.parent) if "label_loss" in row]
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(
            f"{file} or history.jsonl beside it: {place}: {first['msg']}; put it back, or move its folder away"
        ) from error
    model = manifest.backbone.model
    # A checkpoint's weights are no random ones, at whatever scale; MiniLM's are named by no checkpoint.
    scale = run.rpartition("-")[2] if model is None else "full"
    source = source_of(scale, checkpoints=custom_checkpoints([model]))
    weights = (manifest.task_weights.reasoning, manifest.task_weights.label)
    made_from = fingerprint(_but_for_the_weights(manifest.made_from), taught)
    return [LossHistory(dataset, run, manifest.role, source, weights, rows, made_from)]


def _but_for_the_weights(made_from: Mapping[str, Any]) -> dict[str, Any]:
    """What a training was made from, less the weights of the tasks and what an assistant of other weights gave."""
    training = made_from.get("training", {})
    weights = {
        name: value
        for name, value in training.get("weights", {}).items()
        if name not in ("label", "reasoning", "hard", "soft")
    }
    of_assistant = ("training_rows", "soft_labels", "student")
    return {name: value for name, value in made_from.items() if name not in of_assistant} | {
        "training": {**training, "weights": weights}
    }
