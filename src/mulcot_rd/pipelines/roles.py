"""A role of the run: its parameters, its base model before training, and the trained one for inference."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mulcot_rd.generation import GenerationParameters
from mulcot_rd.models import BackboneParameters, TrainedModel
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.models.prepare import prepare_backbone
from mulcot_rd.parameters import InputParameters, MethodParameters
from mulcot_rd.schema import Post, TeacherRecord, TrainingRow
from mulcot_rd.training.parameters import AssistantTrainingParameters, StudentTrainingParameters
from mulcot_rd.training.roles import Role, check_fits, load_encoder, load_role, untrained_role


class RoleParameters(BaseModel):
    """All that assistant or student is made and asked with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: BackboneParameters = Field(description="The model, and what of it is trained")
    training: AssistantTrainingParameters | StudentTrainingParameters = Field(description="Objective and optimisation")
    generation: GenerationParameters = Field(description="How it answers")
    inputs: InputParameters = Field(description="How posts are turned into its inputs")
    method: MethodParameters = Field(description="What the variant keeps of the method")
    seed: int = Field(ge=0, lt=2**31, description="Seed of adapter, order, dropout and sampling")


def base_model_for(
    posts: Sequence[Post], reasonings: Sequence[TeacherRecord | TrainingRow], role: RoleParameters, models: Path
) -> dict[str, Any]:
    """Where a role's weights before training are; a tiny one is built, with a tokenizer made of these reasonings."""
    return prepare_backbone(
        role.backbone,
        [post for post in posts if post.split == "train"],
        reasonings,
        vocabulary_size=role.inputs.tiny_vocabulary_size,
        seed=role.seed,
        models=models,
    )


def untrained(
    name: str, role: RoleParameters, base: dict[str, Any], posts: Sequence[Post], models: Path
) -> dict[str, Any]:
    """The manifest of a role that the variant does not train."""
    return untrained_role(
        name,
        role.backbone,
        base,
        posts,
        models,
        image_size=role.inputs.image_size,
        shown=role.inputs.presentation,
    )


def role_for(posts: Sequence[Post], adapter: dict[str, Any], role: RoleParameters) -> Role:
    """The role whose manifest ``adapter`` is, ready to read these posts as it was trained to.

    Raises:
        StaleInputError: If it was trained with other posts, on another backbone, or on inputs that looked otherwise.
        DamagedError: If a file of it is not the one that was trained.
    """
    _check(posts, adapter, role)
    return load_role(adapter, role.backbone)


def answering_role(
    posts: Sequence[Post], adapter: dict[str, Any], role: RoleParameters
) -> tuple[TrainedModel | None, InputEncoder]:
    """The role's model and what makes its inputs; no model, and no weights loaded, where a server answers.

    Raises:
        StaleInputError: As :func:`role_for`.
        DamagedError: As :func:`role_for`.
    """
    if role.generation.backend == "served":
        _check(posts, adapter, role)
        return None, load_encoder(adapter, role.backbone)
    loaded = role_for(posts, adapter, role)
    return loaded.model, loaded.encoder


def _check(posts: Sequence[Post], adapter: dict[str, Any], role: RoleParameters) -> None:
    inputs = role.inputs
    check_fits(adapter, posts, role.backbone, image_size=inputs.image_size, shown=inputs.presentation)
