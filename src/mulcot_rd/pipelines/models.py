"""Assistant and student as nodes get them: the checkpoint that training starts from, and the trained model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mulcot_rd.models.checkpoint import prepare_checkpoint
from mulcot_rd.schema import Post, TeacherRecord, TrainingRow
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
