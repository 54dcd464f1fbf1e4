"""A model with its adapter and what makes its inputs: fresh for training, or as it was trained."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mulcot_rd.kept import DamagedError, read_manifest, run_folder, verify
from mulcot_rd.models.backbone import Backbone, BackboneParameters, load_backbone, load_processor
from mulcot_rd.models.checkpoint import located
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.models.lora import TrainedModel, attach_adapter, load_adapter
from mulcot_rd.models.registry import family_named
from mulcot_rd.prompts import WHOLE_POST
from mulcot_rd.schema import InputView
from mulcot_rd.versions import newest

CALIBRATION = "calibration.json"


@dataclass(frozen=True)
class LoadedModel:
    """Assistant or student, loaded.

    Attributes:
        name: "assistant" or "student".
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


def load_model(folder: Path, backbone: BackboneParameters | None = None) -> LoadedModel:
    """Load a trained model, or one that the method left untrained.

    Args:
        folder: The model's folder; of several versions in it, the newest. Its manifest names backbone, adapter, image
            size, input view and prompts. A merged checkpoint, of :mod:`mulcot_rd.models.export`, is one too.
        backbone: Where the backbone lies now, and how it computes (type, attention); by default as in the manifest.

    Raises:
        DamagedError: If the manifest is missing, or a file is not the one that was trained.
    """
    folder = newest(folder)
    manifest, backbone = _opened(folder, backbone)
    loaded = load_backbone(backbone, _checkpoint(folder, manifest, backbone)["location"])
    own = loaded.model.num_parameters()
    adapted = manifest["trained"] and not manifest.get("merged")
    model: TrainedModel = load_adapter(loaded.model, folder) if adapted else loaded.model
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


def model_calibration(folder: Path) -> dict[str, Any] | None:
    """What the evaluation found of the probabilities of a model in this place; ``None`` where there was none.

    It lies beside the models of a run, and inside of a merged checkpoint.

    Raises:
        DamagedError: If it can't be read.
    """
    folder, manifest = newest(folder), model_manifest(folder)
    path = (folder if manifest.get("merged") else run_folder(folder)) / CALIBRATION
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8")).get(manifest["role"])
    except ValueError as error:
        raise DamagedError(f"{path} is not valid JSON ({error}): run the pipeline evaluation again") from error


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
