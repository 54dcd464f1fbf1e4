"""What determines a result: only this enters its fingerprint, so no other parameter ever makes it anew.

Parameters that change speed, memory or how often work is saved change a result by rounding at most. They are listed
here, and nowhere else; everything not listed counts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.images import image_hashes
from mulcot_rd.models import BackboneParameters
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.schema import Post
from mulcot_rd.training.batches import Example, examples_fingerprint
from mulcot_rd.training.parameters import (
    AssistantTrainingParameters,
    PreferenceTrainingParameters,
    StudentTrainingParameters,
)
from mulcot_rd.training.soft_labels import SoftLabels

# Of BackboneParameters. Which weights `model` and `revision` name is told by their content (`base_weights`).
BACKBONE_WITHOUT_EFFECT = frozenset({"attn_implementation", "gradient_checkpointing", "model", "revision"})
# Of OptimisationParameters.
OPTIMISATION_WITHOUT_EFFECT = frozenset({"checkpoint_minutes"})


def made_from(
    examples: Sequence[Example],
    dev: Sequence[Post],
    soft_labels: SoftLabels | None,
    backbone: BackboneParameters,
    base_weights: str,
    training: AssistantTrainingParameters | StudentTrainingParameters | PreferenceTrainingParameters,
    encoder: InputEncoder,
    seed: int,
) -> dict[str, Any]:
    """Everything that a trained model's weights depend on, by name.

    Args:
        examples: The training rows.
        dev: The posts that epochs are scored on.
        soft_labels: The assistant's distributions, where they take part.
        backbone: The model before training.
        base_weights: Fingerprint of its weights.
        training: Weights of the objective, optimiser, schedule, batches and validation.
        encoder: Makes the model's inputs.
        seed: Of adapter, order and dropout.
    """
    settings = training.model_dump(mode="json")
    optimisation = settings["optimisation"] = _without(settings["optimisation"], OPTIMISATION_WITHOUT_EFFECT)
    # What trainings had before these were parameters: they are found again.
    for name, before in {"lr_factor": 0.5, "lr_factors": {}, "lr_schedule": "plateau"}.items():
        if optimisation[name] == before:
            del optimisation[name]
    return {
        "training_rows": examples_fingerprint(examples),
        "dev_posts": _scored_posts(dev),
        "soft_labels": None if soft_labels is None else soft_labels.manifest.fingerprint,
        "base_weights": base_weights,
        "backbone": _without(backbone.model_dump(mode="json"), BACKBONE_WITHOUT_EFFECT),
        "training": settings,
        "inputs": encoder.settings,
        "seed": seed,
    }


def _scored_posts(posts: Sequence[Post]) -> str:
    """Hash of posts with their labels, captions and images, wherever the images lie."""
    images = image_hashes(post.image for post in posts)
    return fingerprint([post.model_dump(mode="json") | {"image": images[post.image]} for post in posts])


def _without(parameters: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if name not in names}
