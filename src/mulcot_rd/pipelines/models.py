"""Assistant and student as nodes get them: the checkpoint that training starts from, and the trained model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.models.lora import without_adapter
from mulcot_rd.models.prepare import prepare_backbone
from mulcot_rd.schema import Post, TeacherRecord, TrainingRow
from mulcot_rd.training.parameters import RoleParameters
from mulcot_rd.training.roles import Role, check_fits, load_encoder, load_role


def initial_checkpoint(
    posts: Sequence[Post], reasonings: Sequence[TeacherRecord | TrainingRow], role: RoleParameters, models: Path
) -> dict[str, Any]:
    """Where the weights before training are; a tiny model is built, with a tokenizer made of these reasonings."""
    return prepare_backbone(
        role.backbone,
        [post for post in posts if post.split == "train"],
        reasonings,
        vocabulary_size=role.inputs.tiny_vocabulary_size,
        seed=role.seed,
        models=models,
    )


def trained_model(posts: Sequence[Post], adapter: dict[str, Any], role: RoleParameters) -> Role:
    """The model whose manifest ``adapter`` is, ready to read these posts as it was trained to.

    Raises:
        StaleInputError: If it was trained with other posts, on another backbone, or on inputs that looked otherwise.
        DamagedError: If a file of it is not the one that was trained.
    """
    check_fits(adapter, posts, role)
    return load_role(adapter, role.backbone)


def answering_model(
    posts: Sequence[Post], adapter: dict[str, Any], role: RoleParameters
) -> tuple[PreTrainedModel | None, InputEncoder]:
    """The trained model with its adapter merged, and what makes its inputs; no model is loaded where a server answers.

    Raises:
        StaleInputError: As :func:`trained_model`.
        DamagedError: As :func:`trained_model`.
    """
    if role.generation.backend == "served":
        check_fits(adapter, posts, role)
        return None, load_encoder(adapter, role.backbone)
    trained = trained_model(posts, adapter, role)
    return without_adapter(trained.model), trained.encoder
