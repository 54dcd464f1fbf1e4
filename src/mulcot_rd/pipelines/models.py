"""Assistant and student as nodes get them: the checkpoint that training starts from, and the trained model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from mulcot_rd.models.checkpoint import prepare_checkpoint
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.models.loaded import LoadedModel, load_encoder, load_model
from mulcot_rd.models.lora import without_adapter
from mulcot_rd.schema import Post, TeacherRecord, TrainingRow
from mulcot_rd.training.manifest import check_fits
from mulcot_rd.training.parameters import ModelParameters


def initial_checkpoint(
    posts: Sequence[Post], reasonings: Sequence[TeacherRecord | TrainingRow], parameters: ModelParameters, models: Path
) -> dict[str, Any]:
    """Where the weights before training are; a tiny model is built, with a tokenizer made of these reasonings."""
    return prepare_checkpoint(
        parameters.backbone,
        [post for post in posts if post.split == "train"],
        reasonings,
        vocabulary_size=parameters.inputs.tiny_vocabulary_size,
        seed=parameters.seed,
        models=models,
    )


def trained_model(posts: Sequence[Post], adapter: dict[str, Any], parameters: ModelParameters) -> LoadedModel:
    """The model whose manifest ``adapter`` is, ready to read these posts as it was trained to.

    Raises:
        StaleInputError: If it was trained with other posts, on another backbone, or on inputs that looked otherwise.
        DamagedError: If a file of it is not the one that was trained.
    """
    check_fits(adapter, posts, parameters)
    return load_model(Path(adapter["folder"]), parameters.backbone)


def answering_model(
    posts: Sequence[Post], adapter: dict[str, Any], parameters: ModelParameters
) -> tuple[PreTrainedModel | None, InputEncoder]:
    """The trained model with its adapter merged, and what makes its inputs; no model is loaded where a server answers.

    Raises:
        StaleInputError: As :func:`trained_model`.
        DamagedError: As :func:`trained_model`.
    """
    if parameters.generation.backend == "served":
        check_fits(adapter, posts, parameters)
        return None, load_encoder(Path(adapter["folder"]), parameters.backbone)
    trained = trained_model(posts, adapter, parameters)
    return without_adapter(trained.model), trained.encoder
