"""The manifest of a trained model: what it was trained with, and what it goes together with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mulcot_rd.credentials import recorded
from mulcot_rd.errors import StaleInputError, UserError
from mulcot_rd.fingerprint import differences, fingerprint
from mulcot_rd.frames import posts_fingerprint
from mulcot_rd.kept import run_folder
from mulcot_rd.models import BackboneParameters
from mulcot_rd.models.checkpoint import base_fingerprint, location_below
from mulcot_rd.models.inputs import input_settings
from mulcot_rd.schema import Post
from mulcot_rd.training.parameters import ModelParameters


def check_fits(
    adapter: Mapping[str, Any], posts: Sequence[Post], parameters: ModelParameters, *, elsewhere: bool = False
) -> None:
    """Refuse a trained model that does not go together with these posts and parameters.

    Args:
        adapter: Its manifest.
        posts: All posts of the data set.
        parameters: Those at hand.
        elsewhere: Whether it was trained on another data set.

    Raises:
        StaleInputError: If it was trained on another backbone than the one that is configured, with other training or
            dev posts (a training post might now be a test post), or on inputs that looked otherwise.
        UserError: If it was trained elsewhere, and its prompts never asked what those of the test posts do.
    """
    who = f"the {adapter['role']} in {adapter['folder']}"
    if "made_from" not in adapter:
        raise StaleInputError(f"{who} was trained by an earlier version of this project: train it again")
    if elsewhere:
        _check_asked(adapter, [post for post in posts if post.split == "test"], who)
    elif adapter["posts"] != trained_posts_fingerprint(posts):
        raise StaleInputError(
            f"the training and dev posts at hand are not those that {who} was trained with: use the --params of its "
            "training (limit), restore its raw data, or train it again"
        )
    base = adapter["base"]["fingerprint"]
    now = {
        "base_weights": base_fingerprint(parameters.backbone, run_folder(Path(adapter["folder"]))) or base,
        **_fixed(parameters.backbone),
    }
    if changed := differences({"base_weights": base, **_fixed(adapter["backbone"])}, now):
        raise StaleInputError(
            f"{who} was trained on another backbone than these parameters name: use the parameters of its training, or "
            f"train it again ({'; '.join(changed)})"
        )
    inputs = input_settings(parameters.inputs.image_size, parameters.inputs.input_view)
    if changed := [name for name, value in inputs.items() if adapter["inputs"][name] != value]:
        raise StaleInputError(
            f"{who} was trained on inputs of another {' and '.join(changed)} (parameters inputs.image_size and "
            "variant, files in mulcot_rd/prompts): use what it was trained with, or train again"
        )


def asked_about(posts: Sequence[Post]) -> list[str]:
    """What prompts of these posts are about: sentiment toward an "aspect", that of the whole "post", or both kinds."""
    return sorted({"post" if post.aspect is None else "aspect" for post in posts})


def _check_asked(adapter: Mapping[str, Any], test: Sequence[Post], who: str) -> None:
    # Earlier versions did not write it.
    known = adapter.get("asked_about", asked_about(test))
    if unknown := set(asked_about(test)) - set(known):
        raise UserError(
            f"{who} was trained on prompts about the {' and the '.join(known)}, and test posts at hand need some about "
            f"the {unknown.pop()}: evaluate a student of such posts"
        )


def untrained_manifest(
    name: str, parameters: ModelParameters, checkpoint: Mapping[str, Any], posts: Sequence[Post], models: Path
) -> dict[str, Any]:
    """The manifest of a model that is not trained: zero-shot, or an assistant that the variant does without.

    Args:
        name: "assistant" or "student".
        parameters: Its parameters.
        checkpoint: Its weights, of :func:`mulcot_rd.models.checkpoint.prepare_checkpoint`.
        posts: All posts of the data set.
        models: The run's folder of models.
    """
    inputs = input_settings(parameters.inputs.image_size, parameters.inputs.input_view)
    made_from = {"backbone": parameters.backbone.model_dump(mode="json"), "inputs": inputs}
    return {
        "role": name,
        "trained": False,
        "fingerprint": fingerprint("untrained", checkpoint["fingerprint"], made_from),
        "made_from": made_from,
        "weights": checkpoint["fingerprint"],
        "files": {},
        "backbone": parameters.backbone.model_dump(),
        "base": location_below(checkpoint, models),
        "inputs": inputs,
        "posts": trained_posts_fingerprint(posts),
        "config": recorded(parameters, exclude={"generation"}),
    }


def trained_posts_fingerprint(posts: Sequence[Post]) -> str:
    """A hash of the posts that training reads: those of the training split, and of dev, which chooses the epoch."""
    return posts_fingerprint([post for post in posts if post.split != "test"])


def _fixed(backbone: BackboneParameters | Mapping[str, Any]) -> dict[str, Any]:
    """What of a backbone's parameters a trained adapter can't do without; the rest may be changed to use it."""
    parameters = BackboneParameters.model_validate(backbone).model_dump(mode="json")
    return {name: parameters[name] for name in ("family", "tiny", "adapter")}
