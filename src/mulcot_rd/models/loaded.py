"""A model with its adapter and what makes its inputs: fresh for training, or as it was trained."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from transformers import PreTrainedModel

from mulcot_rd.kept import DamagedError, read_manifest, run_folder, verify
from mulcot_rd.models.backbone import Backbone, BackboneParameters, load_backbone, load_processor
from mulcot_rd.models.checkpoint import located
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.models.lora import TrainedModel, attach_adapter, load_adapter
from mulcot_rd.models.registry import family_named
from mulcot_rd.prompts import WHOLE_POST
from mulcot_rd.schema import InputView, Record, TemperatureRecord
from mulcot_rd.versions import newest

TEMPERATURES = "temperatures.jsonl"


@dataclass(frozen=True)
class LoadedModel:
    """Assistant or student, loaded.

    Attributes:
        name: "assistant", "student" or "student_preference".
        backbone: The frozen model and its processor.
        model: The same with an adapter, or trained whole.
        encoder: Makes its inputs.
        parameters: How many parameters the model has with its adapter.
    """

    name: str
    backbone: Backbone
    model: TrainedModel
    encoder: InputEncoder
    parameters: int


class StoredModel(Record):
    """A trained model on disk, as a job takes it along.

    Attributes:
        name: "assistant" or "student".
        folder: Where it lies.
        backbone: Where the model before training lies now, and how it computes.
        identity: What tells its weights from all others (:func:`model_identity`).
    """

    name: str
    folder: Path
    backbone: BackboneParameters
    identity: str

    @classmethod
    def of(cls, manifest: Mapping[str, Any], backbone: BackboneParameters) -> Self:
        """The model of a manifest that names its ``folder``."""
        return cls(
            name=manifest["role"], folder=manifest["folder"], backbone=backbone, identity=model_identity(manifest)
        )

    def load(self) -> LoadedModel:
        """The model; see :func:`load_model`."""
        return load_model(self.folder, self.backbone)

    def load_encoder(self) -> InputEncoder:
        """What makes its inputs, without its weights."""
        return load_encoder(self.folder, self.backbone)


def fresh_model(
    name: str,
    parameters: BackboneParameters,
    checkpoint: Mapping[str, Any],
    *,
    image_size: int,
    seed: int,
    view: InputView = WHOLE_POST,
) -> LoadedModel:
    """Load a backbone and give it a fresh adapter drawn from ``seed``."""
    backbone = load_backbone(parameters, checkpoint["location"])
    own = backbone.model.num_parameters()
    model = attach_adapter(backbone.model, parameters.adapter, seed)
    if parameters.gradient_checkpointing:
        backbone.model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    encoder = InputEncoder(backbone.family, backbone.processor, image_size, view)
    return LoadedModel(name, backbone, model, encoder, own + _low_rank(model))


def load_model(folder: Path, backbone: BackboneParameters | None = None, *, trainable: bool = False) -> LoadedModel:
    """Load a trained model, or one that the method left untrained.

    Args:
        folder: The model's folder; of several versions in it, the newest. Its manifest names backbone, adapter, image
            size, input view and prompts. A merged checkpoint, of :mod:`mulcot_rd.models.export`, is one too.
        backbone: Where the backbone lies now, and how it computes (type, attention); by default as in the manifest.
        trainable: Whether a trained model is to be trained on.

    Raises:
        DamagedError: If the manifest is missing, or a file is not the one that was trained.
    """
    folder = newest(folder)
    manifest, backbone = _opened(folder, backbone)
    loaded = load_backbone(backbone, _checkpoint(folder, manifest, backbone)["location"])
    own = loaded.model.num_parameters()
    adapted = manifest["trained"] and not manifest.get("merged")
    model: TrainedModel = load_adapter(loaded.model, folder, trainable=trainable) if adapted else loaded.model
    if isinstance(model, PreTrainedModel):
        # A model that was trained whole takes the place of the one that it was before.
        loaded = replace(loaded, model=model)
    if trainable and backbone.gradient_checkpointing:
        loaded.model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    encoder = InputEncoder(loaded.family, loaded.processor, **_inputs(manifest))
    return LoadedModel(manifest["role"], loaded, model, encoder, own + _low_rank(model))


def load_encoder(folder: Path, backbone: BackboneParameters | None = None) -> InputEncoder:
    """What makes a trained model's inputs, without loading its weights; see :func:`load_model`."""
    folder = newest(folder)
    manifest, backbone = _opened(folder, backbone)
    return checkpoint_encoder(backbone, _checkpoint(folder, manifest, backbone), **_inputs(manifest))


def model_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a trained model, or of a merged checkpoint; of several versions in the folder, the newest's.

    Raises:
        DamagedError: If it is missing.
    """
    if not folder.exists():
        raise DamagedError(f"{folder} does not exist: name the folder of an assistant or a student")
    manifest = read_manifest(newest(folder))
    if manifest is None:
        raise DamagedError(
            f"{folder} holds no model: its manifest.json is missing; name the folder of an assistant or a student, run "
            "the pipeline that trains it, or export it again"
        )
    return manifest


def checkpoint_encoder(
    parameters: BackboneParameters, checkpoint: Mapping[str, Any], *, image_size: int, view: InputView = WHOLE_POST
) -> InputEncoder:
    """What makes a checkpoint's inputs, without loading its weights."""
    family = family_named(parameters.family)
    processor = load_processor(family, checkpoint["location"], checkpoint["revision"])
    return InputEncoder(family, processor, image_size, view)


def model_identity(manifest: Mapping[str, Any]) -> str:
    """What tells a model from every other by its content: its trained weights and those below them."""
    return f"{manifest['weights']} {manifest['base']['fingerprint']}"


def model_temperature(folder: Path) -> TemperatureRecord | None:
    """The temperature that an evaluation fitted for this very model; ``None`` where none did.

    Those of a run's models lie beside them, each under its model's identity; that of an exported model in its folder.

    Raises:
        DamagedError: If a file of them can't be read.
    """
    folder, manifest = newest(folder), model_manifest(folder)
    exported, identity = manifest.get("merged") or "evaluation" in manifest, model_identity(manifest)
    place = folder if exported else run_folder(folder)
    return next((record for record in _temperatures(place) if record.model == identity), None)


def _temperatures(place: Path) -> Iterator[TemperatureRecord]:
    path = place / TEMPERATURES
    # Where the latest evaluation of a run wrote them in earlier versions, and still writes its scores.
    latest = newest(place / "calibration.json")
    try:
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                yield TemperatureRecord(**json.loads(line))
        path = latest
        if path.is_file():
            for role, said in json.loads(path.read_text(encoding="utf-8")).items():
                if said is not None:
                    yield TemperatureRecord(model=said["model"], role=role, temperature=said["temperature"])
    except (ValueError, TypeError) as error:
        raise DamagedError(
            f"{path} is not what was written ({error}): delete it and run the pipeline evaluation again"
        ) from error


def _opened(folder: Path, backbone: BackboneParameters | None) -> tuple[dict[str, Any], BackboneParameters]:
    manifest = model_manifest(folder)
    verify(folder, manifest["files"])
    return manifest, backbone or BackboneParameters.model_validate(manifest["backbone"])


def _checkpoint(folder: Path, manifest: Mapping[str, Any], backbone: BackboneParameters) -> dict[str, Any]:
    """The weights below the adapter; a merged checkpoint, which earlier versions never wrote, has them itself."""
    if manifest.get("merged"):
        return {**manifest["base"], "location": str(folder), "revision": None}
    return located(backbone, manifest["base"], run_folder(folder))


def _inputs(manifest: Mapping[str, Any]) -> dict[str, Any]:
    inputs = manifest["inputs"]
    return {"image_size": inputs["image_size"], "view": InputView(**inputs["input_view"])}


def _low_rank(model: TrainedModel) -> int:
    """Parameters that the adapter adds; peft's copies of modules trained whole replace what is there already."""
    return sum(parameter.numel() for name, parameter in model.named_parameters() if "lora_" in name)
