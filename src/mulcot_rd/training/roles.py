"""A role's model with what makes its inputs: fresh for training, or as it was trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mulcot_rd.errors import StaleInputError
from mulcot_rd.fingerprint import differences, fingerprint
from mulcot_rd.frames import posts_fingerprint
from mulcot_rd.kept import verify
from mulcot_rd.models import (
    Backbone,
    BackboneParameters,
    TrainedModel,
    attach_adapter,
    family_named,
    load_adapter,
    load_backbone,
    load_processor,
)
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.models.prepare import base_fingerprint, located, location_below
from mulcot_rd.prompts import WHOLE_POST
from mulcot_rd.schema import Post, Presentation


@dataclass(frozen=True)
class Role:
    """A role's model, loaded and ready to train.

    Attributes:
        name: "assistant" or "student".
        backbone: The frozen model and its processor.
        model: The same with a fresh adapter, or to be trained whole.
        encoder: Makes its inputs.
        parameters: How many parameters the model has with its adapter.
    """

    name: str
    backbone: Backbone
    model: TrainedModel
    encoder: InputEncoder
    parameters: int


def role_encoder(
    parameters: BackboneParameters, prepared: Mapping[str, Any], *, image_size: int, shown: Presentation = WHOLE_POST
) -> InputEncoder:
    """What makes a role's inputs, without loading its weights."""
    family = family_named(parameters.family)
    processor = load_processor(family, prepared["location"], prepared["revision"])
    return InputEncoder(family, processor, image_size, shown)


def start_role(
    name: str,
    parameters: BackboneParameters,
    prepared: Mapping[str, Any],
    *,
    image_size: int,
    seed: int,
    shown: Presentation = WHOLE_POST,
) -> Role:
    """Load a role's backbone and give it a fresh adapter drawn from ``seed``."""
    backbone = load_backbone(parameters, prepared["location"])
    own = backbone.model.num_parameters()
    model = attach_adapter(backbone.model, parameters.adapter, seed)
    if parameters.gradient_checkpointing:
        backbone.model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    encoder = InputEncoder(backbone.family, backbone.processor, image_size, shown)
    return Role(name, backbone, model, encoder, own + _low_rank(model))


def trained_encoder(
    backbone: BackboneParameters,
    adapter: Mapping[str, Any],
    posts: Sequence[Post],
    *,
    image_size: int,
    shown: Presentation = WHOLE_POST,
) -> InputEncoder:
    """What makes a role's inputs as in its training, without loading its weights.

    Raises:
        StaleInputError: If the adapter was trained on another backbone than the one that is configured, with other
            training or dev posts (a training post might now be a test post), or on inputs that looked otherwise.
    """
    name, folder = adapter["role"], adapter["folder"]
    if "made_from" not in adapter:
        raise StaleInputError(f"the {name} in {folder} was trained by an earlier version of this project: train again")
    if adapter["posts"] != trained_posts_fingerprint(posts):
        raise StaleInputError(
            f"the training and dev posts at hand are not those that the {name} in {folder} was trained with: use the "
            "--params of its training (limit), restore its raw data, or train it again"
        )
    models = Path(folder).parent
    now = {"base_weights": base_fingerprint(backbone, models) or adapter["base"]["fingerprint"], **_fixed(backbone)}
    if changed := differences({"base_weights": adapter["base"]["fingerprint"], **_fixed(adapter["backbone"])}, now):
        raise StaleInputError(
            f"the {name} in {folder} was trained on another backbone than these parameters name: use the parameters it "
            f"was trained with, or train it again ({'; '.join(changed)})"
        )
    base = located(backbone, adapter["base"], models)
    encoder = role_encoder(backbone, base, image_size=image_size, shown=shown)
    if changed := encoder.differs_in(adapter["inputs"]):
        raise StaleInputError(
            f"the {name} in {folder} was trained on inputs of another {' and '.join(changed)} (parameters "
            "inputs.image_size and variant, files in mulcot_rd/prompts): use what it was trained with, or train again"
        )
    return encoder


def load_role(backbone: BackboneParameters, adapter: Mapping[str, Any], encoder: InputEncoder) -> Role:
    """Load a role's backbone with its trained adapter (or as it came, where nothing was trained).

    Args:
        backbone: The role's backbone.
        adapter: The role's manifest.
        encoder: Of :func:`trained_encoder`, which has checked that all these belong together.

    Raises:
        DamagedError: If a file of the adapter is not the one that was trained.
    """
    folder = Path(adapter["folder"])
    if adapter["trained"]:
        verify(folder, adapter["files"])
    loaded = load_backbone(backbone, located(backbone, adapter["base"], folder.parent)["location"])
    own = loaded.model.num_parameters()
    model: TrainedModel = loaded.model
    if adapter["trained"]:
        model = load_adapter(loaded.model, folder)
    return Role(adapter["role"], loaded, model, encoder, own + _low_rank(model))


def untrained_role(
    name: str, backbone: BackboneParameters, prepared: Mapping[str, Any], posts: Sequence[Post], models: Path
) -> dict[str, Any]:
    """The manifest of a role that is not trained: zero-shot, or an assistant that the variant does without.

    Args:
        name: "assistant" or "student".
        backbone: The role's backbone.
        prepared: Its base model, of :func:`mulcot_rd.models.prepare.prepare_backbone`.
        posts: All posts of the data set.
        models: The run's folder of models.
    """
    made_from = {"backbone": backbone.model_dump(mode="json")}
    return {
        "role": name,
        "trained": False,
        "fingerprint": fingerprint("untrained", prepared["fingerprint"], made_from),
        "made_from": made_from,
        "weights": prepared["fingerprint"],
        "files": {},
        "backbone": backbone.model_dump(),
        "base": location_below(prepared, models),
        "inputs": None,
        "posts": trained_posts_fingerprint(posts),
    }


def trained_posts_fingerprint(posts: Sequence[Post]) -> str:
    """A hash of the posts that training reads: those of the training split, and of dev, which chooses the epoch."""
    return posts_fingerprint([post for post in posts if post.split != "test"])


def model_identity(adapter: Mapping[str, Any]) -> str:
    """What tells a role's model from every other by its content: its trained weights and those below them."""
    return f"{adapter['weights']} {adapter['base']['fingerprint']}"


def _fixed(backbone: BackboneParameters | Mapping[str, Any]) -> dict[str, Any]:
    """What of a backbone's parameters a trained adapter can't do without; the rest may be changed to use it."""
    parameters = BackboneParameters.model_validate(backbone).model_dump(mode="json")
    return {name: parameters[name] for name in ("family", "tiny", "adapter")}


def _low_rank(model: TrainedModel) -> int:
    """Parameters that the adapter adds; peft's copies of modules trained whole replace what is there already."""
    return sum(parameter.numel() for name, parameter in model.named_parameters() if "lora_" in name)
