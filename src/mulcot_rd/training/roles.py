"""A role's model with what makes its inputs: fresh for training, or as it was trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mulcot_rd.credentials import recorded
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
from mulcot_rd.models.inputs import InputEncoder, input_settings
from mulcot_rd.models.prepare import base_fingerprint, located, location_below
from mulcot_rd.prompts import WHOLE_POST
from mulcot_rd.schema import InputView, Post
from mulcot_rd.training.parameters import RoleParameters


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
    parameters: BackboneParameters, prepared: Mapping[str, Any], *, image_size: int, view: InputView = WHOLE_POST
) -> InputEncoder:
    """What makes a role's inputs, without loading its weights."""
    family = family_named(parameters.family)
    processor = load_processor(family, prepared["location"], prepared["revision"])
    return InputEncoder(family, processor, image_size, view)


def encoder_before_training(role: RoleParameters, prepared: Mapping[str, Any]) -> InputEncoder:
    """What makes the inputs of a role that is to be trained."""
    return role_encoder(role.backbone, prepared, image_size=role.inputs.image_size, view=role.inputs.input_view)


def start_role(
    name: str,
    parameters: BackboneParameters,
    prepared: Mapping[str, Any],
    *,
    image_size: int,
    seed: int,
    view: InputView = WHOLE_POST,
) -> Role:
    """Load a role's backbone and give it a fresh adapter drawn from ``seed``."""
    backbone = load_backbone(parameters, prepared["location"])
    own = backbone.model.num_parameters()
    model = attach_adapter(backbone.model, parameters.adapter, seed)
    if parameters.gradient_checkpointing:
        backbone.model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    encoder = InputEncoder(backbone.family, backbone.processor, image_size, view)
    return Role(name, backbone, model, encoder, own + _low_rank(model))


def check_fits(adapter: Mapping[str, Any], posts: Sequence[Post], role: RoleParameters) -> None:
    """Refuse a role that does not go together with these posts and parameters.

    Raises:
        StaleInputError: If it was trained on another backbone than the one that is configured, with other training or
            dev posts (a training post might now be a test post), or on inputs that looked otherwise.
    """
    who = f"the {adapter['role']} in {adapter['folder']}"
    if "made_from" not in adapter:
        raise StaleInputError(f"{who} was trained by an earlier version of this project: train it again")
    if adapter["posts"] != trained_posts_fingerprint(posts):
        raise StaleInputError(
            f"the training and dev posts at hand are not those that {who} was trained with: use the --params of its "
            "training (limit), restore its raw data, or train it again"
        )
    base = adapter["base"]["fingerprint"]
    now = {
        "base_weights": base_fingerprint(role.backbone, Path(adapter["folder"]).parent) or base,
        **_fixed(role.backbone),
    }
    if changed := differences({"base_weights": base, **_fixed(adapter["backbone"])}, now):
        raise StaleInputError(
            f"{who} was trained on another backbone than these parameters name: use the parameters of its training, or "
            f"train it again ({'; '.join(changed)})"
        )
    inputs = input_settings(role.inputs.image_size, role.inputs.input_view)
    if changed := [name for name, value in inputs.items() if adapter["inputs"][name] != value]:
        raise StaleInputError(
            f"{who} was trained on inputs of another {' and '.join(changed)} (parameters inputs.image_size and "
            "variant, files in mulcot_rd/prompts): use what it was trained with, or train again"
        )


def load_encoder(adapter: Mapping[str, Any], backbone: BackboneParameters) -> InputEncoder:
    """What makes a trained role's inputs, without loading its weights; arguments as in :func:`load_role`."""
    base = located(backbone, adapter["base"], Path(adapter["folder"]).parent)
    inputs = adapter["inputs"]
    return role_encoder(backbone, base, image_size=inputs["image_size"], view=InputView(**inputs["input_view"]))


def load_role(adapter: Mapping[str, Any], backbone: BackboneParameters) -> Role:
    """Load a trained role, or one that came as it is where nothing was trained.

    Args:
        adapter: Its manifest with its ``folder``: it says what the role was made of and how its inputs look.
        backbone: Where the weights before training lie, and how they compute (type, attention).

    Raises:
        DamagedError: If a file of the adapter is not the one that was trained.
    """
    folder = Path(adapter["folder"])
    verify(folder, adapter["files"])
    loaded = load_backbone(backbone, located(backbone, adapter["base"], folder.parent)["location"])
    own = loaded.model.num_parameters()
    model: TrainedModel = load_adapter(loaded.model, folder) if adapter["trained"] else loaded.model
    return Role(adapter["role"], loaded, model, load_encoder(adapter, backbone), own + _low_rank(model))


def untrained_role(
    name: str, role: RoleParameters, prepared: Mapping[str, Any], posts: Sequence[Post], models: Path
) -> dict[str, Any]:
    """The manifest of a role that is not trained: zero-shot, or an assistant that the variant does without.

    Args:
        name: "assistant" or "student".
        role: Its parameters.
        prepared: Its base model, of :func:`mulcot_rd.models.prepare.prepare_backbone`.
        posts: All posts of the data set.
        models: The run's folder of models.
    """
    inputs = input_settings(role.inputs.image_size, role.inputs.input_view)
    made_from = {"backbone": role.backbone.model_dump(mode="json"), "inputs": inputs}
    return {
        "role": name,
        "trained": False,
        "fingerprint": fingerprint("untrained", prepared["fingerprint"], made_from),
        "made_from": made_from,
        "weights": prepared["fingerprint"],
        "files": {},
        "backbone": role.backbone.model_dump(),
        "base": location_below(prepared, models),
        "inputs": inputs,
        "posts": trained_posts_fingerprint(posts),
        "config": recorded(role, exclude={"generation"}),
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
