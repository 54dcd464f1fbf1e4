"""Training of a role from files to files: what assistant and student have in common."""

import hashlib
import json
import logging
import shutil
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

from mulcot_rd import __version__
from mulcot_rd.crew import Crew
from mulcot_rd.errors import StaleInputError
from mulcot_rd.fingerprint import file_fingerprint, fingerprint
from mulcot_rd.generation import AnswerLog, GenerationParameters, answer_posts
from mulcot_rd.images import images_fingerprint
from mulcot_rd.metrics import classification_scores
from mulcot_rd.models import (
    Backbone,
    BackboneParameters,
    TrainedModel,
    attach_adapter,
    family_named,
    load_adapter,
    load_backbone,
    load_processor,
    parameter_numbers,
    trained_weights,
)
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.prompts import TASKS, WHOLE_POST, Task
from mulcot_rd.schema import Post, Presentation, TrainingRow
from mulcot_rd.training.batches import Example, make_example
from mulcot_rd.training.images import ImageStore
from mulcot_rd.training.learner import Learner, LossFunction, Preparation
from mulcot_rd.training.loop import Trainer, TrainingOutcome, read_history
from mulcot_rd.training.parameters import OptimisationParameters, ValidationParameters
from mulcot_rd.training.soft_labels import SoftLabels

logger = logging.getLogger(__name__)


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
    parameters: BackboneParameters,
    prepared: Mapping[str, Any],
    adapter: Mapping[str, Any],
    posts: Sequence[Post],
    *,
    image_size: int,
    shown: Presentation = WHOLE_POST,
) -> InputEncoder:
    """What makes a role's inputs as in its training, without loading its weights.

    Raises:
        StaleInputError: If the adapter was trained on another backbone than the one that is configured, or with
            other posts (its training posts might now be test posts), or that its inputs looked otherwise.
    """
    name = adapter["role"]
    if adapter["posts"] != posts_fingerprint(posts):
        raise StaleInputError(
            f"the posts at hand are not those that the {name} in {adapter['folder']} was trained with: use the "
            "--params of its training (limit), restore its raw data, or train it again"
        )
    if adapter["backbone"] != parameters.model_dump() or adapter["base"] != dict(prepared):
        raise StaleInputError(
            f"the {name} in {adapter['folder']} was trained on another backbone than these parameters name: use the "
            "parameters it was trained with, or train it again"
        )
    encoder = role_encoder(parameters, prepared, image_size=image_size, shown=shown)
    # Manifests without inputs are older than this check, those of untrained roles bind to none.
    if changed := encoder.differs_in(adapter.get("inputs")):
        raise StaleInputError(
            f"the {name} in {adapter['folder']} was trained on inputs of another {' and '.join(changed)} (parameters "
            "inputs.image_size and variant, files in mulcot_rd/prompts): use what it was trained with, or train again"
        )
    return encoder


def load_role(
    parameters: BackboneParameters, prepared: Mapping[str, Any], adapter: Mapping[str, Any], encoder: InputEncoder
) -> Role:
    """Load a role's backbone with its trained adapter (or as it came, where nothing was trained).

    Args:
        parameters: The role's backbone.
        prepared: Where its weights are.
        adapter: The role's manifest.
        encoder: Of :func:`trained_encoder`, which has checked that all these belong together.
    """
    backbone = load_backbone(parameters, prepared["location"])
    own = backbone.model.num_parameters()
    model: TrainedModel = backbone.model
    if adapter["trained"]:
        model = load_adapter(backbone.model, Path(adapter["folder"]))
    return Role(adapter["role"], backbone, model, encoder, own + _low_rank(model))


def untrained_role(
    name: str, parameters: BackboneParameters, prepared: Mapping[str, Any], posts: Sequence[Post], *, folder: Path
) -> dict[str, Any]:
    """The manifest of a role that is not trained: zero-shot, or an assistant that the variant does without."""
    trained_weights(folder).unlink(missing_ok=True)
    return {
        "role": name,
        "trained": False,
        "fingerprint": fingerprint("untrained", prepared["fingerprint"], parameters),
        "weights": prepared["fingerprint"],
        "backbone": parameters.model_dump(),
        "base": dict(prepared),
        "posts": posts_fingerprint(posts),
    }


def finished_manifest(folder: Path, mark: str) -> dict[str, Any] | None:
    """The manifest of an adapter that is complete and made from the same things, else ``None``.

    A manifest of other things is removed at once, so that an adapter in work never passes for complete.
    """
    path = folder / "manifest.json"
    if not path.exists():
        return None
    manifest = json.loads(path.read_text(encoding="utf-8"))
    if manifest["trained"] and manifest["fingerprint"] == mark and trained_weights(folder).exists():
        return manifest
    path.unlink()
    return None


def training_examples(
    rows: Sequence[TrainingRow],
    posts: Sequence[Post],
    encoder: InputEncoder,
    what: str,
    tasks: Sequence[Task] = TASKS,
) -> list[Example]:
    """Training rows, tokenised for these tasks, each with its post of the training split.

    Raises:
        StaleInputError: If a row's post is not there; the message begins with ``what`` the rows are.
    """
    training = {post.id: post for post in posts if post.split == "train"}
    try:
        chosen = [training[row.post_id] for row in rows]
    except KeyError as error:
        raise StaleInputError(
            f"{what} names post {error}, which is not in the training split at hand: use the --params "
            "that it was made with (limit), or run the pipelines from teacher_annotation on again"
        ) from error
    return [make_example(row, post, encoder, tasks) for row, post in zip(rows, chosen, strict=True)]


def posts_fingerprint(posts: Sequence[Post]) -> str:
    """A hash of all posts of a data set with their splits and labels."""
    return fingerprint([post.model_dump(mode="json") for post in posts])


def train_role(
    role: Role,
    examples: Sequence[Example],
    loss: LossFunction,
    soft_labels: SoftLabels | None,
    dev: Sequence[Post],
    optimisation: OptimisationParameters,
    generation: GenerationParameters,
    *,
    seed: int,
    folder: Path,
    mark: str,
    details: Mapping[str, Any],
) -> dict[str, Any]:
    """Train, keep the best epoch's adapter and the processor in ``folder``, and return the manifest.

    Args:
        role: The model to train.
        examples: Its training rows.
        loss: One micro-batch's share of its window's loss.
        soft_labels: The assistant's distributions at the rows' targets, which each batch then carries; or none.
        dev: Posts of the dev split.
        optimisation: Optimiser, schedule and batches.
        generation: How dev posts are answered; without retries.
        seed: Of order and dropout.
        folder: The adapter's folder; work in progress is kept in its subfolder ``work``.
        mark: Fingerprint of everything that determines the result.
        details: More for the manifest.
    """
    scored = dev[: optimisation.validation.posts]
    if not scored:
        raise ValueError(f"the dev split is empty, so no epoch of the {role.name} can be scored: give it posts")
    learned = [task for task in optimisation.validation.tasks if task in examples[0].targets]
    if not learned:
        raise ValueError(
            f"the {role.name} learns {' and '.join(examples[0].targets)}, and its epochs are to be scored by "
            f"{' and '.join(optimisation.validation.tasks)}: name a task that it learns under validation.tasks"
        )
    validation = optimisation.validation.model_copy(update={"tasks": learned})
    images = ImageStore(folder / "images", role.encoder, role.model, details["base"]["fingerprint"])
    prepare = Preparation(examples, role.encoder, images, soft_labels, role.model.device)

    def validate(step: int, crew: Crew) -> float:
        log = AnswerLog(folder / "work" / "validation.jsonl", fingerprint(mark, step))
        return _score(role, scored, validation, generation, log, crew)

    trainer = Trainer(
        role=role.name,
        learner=Learner(role.model, role.encoder, prepare, loss),
        examples=examples,
        validate=validate,
        parameters=optimisation,
        seed=seed,
        folder=folder / "work",
        fingerprint=mark,
    )
    images.prepare([example.image for example in examples])
    outcome = trainer.run()
    images.discard()
    _install(outcome, role, folder)
    _, trainable = parameter_numbers(role.model)
    logger.info(
        "%s: kept epoch %d, dev score %.3f, %d rows, %s trained of %s parameters",
        role.name, outcome.best_epoch, outcome.best_score, len(examples), f"{trainable:,}", f"{role.parameters:,}",
    )  # fmt: skip
    return {
        "role": role.name,
        "trained": True,
        "fingerprint": mark,
        "weights": file_fingerprint(trained_weights(folder)),
        "best_epoch": outcome.best_epoch,
        "best_dev_score": outcome.best_score,
        "validation": validation.model_dump(),
        "training_rows": len(examples),
        "parameters": {"total": role.parameters, "trainable": trainable},
        "inputs": role.encoder.settings,
        **details,
        "versions": {
            "mulcot_rd": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
    }


def examples_fingerprint(examples: Sequence[Example]) -> str:
    """A hash of the tokenised rows and their images: posts, prompts, tokenizer and reasonings all show in it."""
    return fingerprint(
        images_fingerprint(example.image for example in examples),
        [
            [e.post_id, e.image, _hash(e.opening), *([t, _hash(e.endings[t]), _hash(e.targets[t])] for t in e.targets)]
            for e in examples
        ],
    )


def _hash(ids: array) -> str:
    return hashlib.sha256(ids.tobytes()).hexdigest()


def history_of(folder: Path) -> list[dict[str, Any]]:
    """The training history kept beside an adapter: losses by step, scores by epoch."""
    return read_history(folder / "work" / "history.jsonl")


def _score(
    role: Role,
    posts: Sequence[Post],
    validation: ValidationParameters,
    generation: GenerationParameters,
    log: AnswerLog,
    crew: Crew,
) -> float:
    """The mean over tasks of the score of the labels that the model answers, a fraction."""
    once = generation.model_copy(update={"max_retries": 0, "backend": "local"})
    answers = answer_posts(
        role.model, role.encoder, posts, validation.tasks, once,
        seed=0, log=log, description=f"{role.name}, dev posts by {' and '.join(validation.tasks)} prompt", crew=crew,
    )  # fmt: skip
    gold = [post.label for post in posts]
    scores = [
        classification_scores([answer.reasoning.prediction for answer in answers[task]], gold)[validation.metric]
        for task in validation.tasks
    ]
    return sum(scores) / len(scores)


def _low_rank(model: TrainedModel) -> int:
    """Parameters that the adapter adds; peft's copies of modules trained whole replace what is there already."""
    return sum(parameter.numel() for name, parameter in model.named_parameters() if "lora_" in name)


def _install(outcome: TrainingOutcome, role: Role, folder: Path) -> None:
    # An earlier training may have left weights of the other kind.
    trained_weights(folder).unlink(missing_ok=True)
    for path in outcome.best_folder.iterdir():
        shutil.copy2(path, folder / path.name)
    role.backbone.processor.save_pretrained(folder)
