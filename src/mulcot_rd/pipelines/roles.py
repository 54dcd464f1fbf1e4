"""A role of the run, loaded for inference: the same for expansion, soft labels, evaluation and costs."""

from typing import Any

from mulcot_rd.generation import GenerationParameters
from mulcot_rd.models import BackboneParameters, TrainedModel
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.parameters import InputParameters
from mulcot_rd.schema import Post
from mulcot_rd.training.roles import Role, load_role, trained_encoder


def role_for(
    posts: list[Post],
    adapter: dict[str, Any],
    base: dict[str, Any],
    backbone: BackboneParameters,
    inputs: InputParameters,
) -> Role:
    """The role whose manifest ``adapter`` is, ready to read these posts as it was trained to.

    Raises:
        StaleInputError: If it was trained with other posts, on another backbone, or on inputs that looked otherwise.
    """
    return load_role(backbone, base, adapter, _encoder(posts, adapter, base, backbone, inputs))


def answering_role(
    posts: list[Post],
    adapter: dict[str, Any],
    base: dict[str, Any],
    backbone: BackboneParameters,
    inputs: InputParameters,
    generation: GenerationParameters,
) -> tuple[TrainedModel | None, InputEncoder]:
    """The role's model and what makes its inputs; no model, and no weights loaded, where a server answers.

    Raises:
        StaleInputError: As :func:`role_for`.
    """
    encoder = _encoder(posts, adapter, base, backbone, inputs)
    served = generation.backend == "served"
    return None if served else load_role(backbone, base, adapter, encoder).model, encoder


def _encoder(
    posts: list[Post],
    adapter: dict[str, Any],
    base: dict[str, Any],
    backbone: BackboneParameters,
    inputs: InputParameters,
) -> InputEncoder:
    return trained_encoder(backbone, base, adapter, posts, image_size=inputs.image_size, shown=inputs.presentation)
