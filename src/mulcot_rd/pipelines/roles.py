"""A role of the run: its base model before training, and the trained one, loaded for inference."""

from pathlib import Path
from typing import Any

from mulcot_rd.generation import GenerationParameters
from mulcot_rd.models import BackboneParameters, TrainedModel
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.models.prepare import prepare_backbone
from mulcot_rd.parameters import InputParameters, RunParameters
from mulcot_rd.schema import Post, TeacherRecord
from mulcot_rd.training.roles import Role, load_role, trained_encoder


def base_model_for(
    posts: list[Post],
    teacher_reasoning: list[TeacherRecord],
    backbone: BackboneParameters,
    inputs: InputParameters,
    run: RunParameters,
    models: Path,
) -> dict[str, Any]:
    """Where a role's weights before training are; a tiny model is built."""
    return prepare_backbone(
        backbone,
        [post for post in posts if post.split == "train"],
        teacher_reasoning,
        vocabulary_size=inputs.tiny_vocabulary_size,
        seed=run.seed,
        models=models,
    )


def role_for(posts: list[Post], adapter: dict[str, Any], backbone: BackboneParameters, inputs: InputParameters) -> Role:
    """The role whose manifest ``adapter`` is, ready to read these posts as it was trained to.

    Raises:
        StaleInputError: If it was trained with other posts, on another backbone, or on inputs that looked otherwise.
        DamagedError: If a file of it is not the one that was trained.
    """
    return load_role(backbone, adapter, _encoder(posts, adapter, backbone, inputs))


def answering_role(
    posts: list[Post],
    adapter: dict[str, Any],
    backbone: BackboneParameters,
    inputs: InputParameters,
    generation: GenerationParameters,
) -> tuple[TrainedModel | None, InputEncoder]:
    """The role's model and what makes its inputs; no model, and no weights loaded, where a server answers.

    Raises:
        StaleInputError: As :func:`role_for`.
        DamagedError: As :func:`role_for`.
    """
    encoder = _encoder(posts, adapter, backbone, inputs)
    served = generation.backend == "served"
    return None if served else load_role(backbone, adapter, encoder).model, encoder


def _encoder(
    posts: list[Post], adapter: dict[str, Any], backbone: BackboneParameters, inputs: InputParameters
) -> InputEncoder:
    return trained_encoder(backbone, adapter, posts, image_size=inputs.image_size, shown=inputs.presentation)
