"""Training of a model from files to files: what assistant and student have in common."""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

from mulcot_rd import __version__
from mulcot_rd.credentials import recorded
from mulcot_rd.errors import StaleInputError, UserError
from mulcot_rd.files import empty_folder
from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.generation import AnswerLog, GenerationParameters, answer_posts
from mulcot_rd.kept import Kept, file_hashes, verify, write_manifest
from mulcot_rd.metrics import classification_scores
from mulcot_rd.models import TrainedModel, parameter_numbers, trained_weights
from mulcot_rd.models.checkpoint import location_below
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.models.loaded import LoadedModel, checkpoint_encoder, fresh_model
from mulcot_rd.models.lora import merged_adapter
from mulcot_rd.prompts import TASKS, Task
from mulcot_rd.schema import Post, TrainingRow
from mulcot_rd.training.batches import Example, make_example
from mulcot_rd.training.identity import made_from
from mulcot_rd.training.images import ImageStore
from mulcot_rd.training.learner import Learner, LossFunction, Preparation
from mulcot_rd.training.loop import HISTORY, Trainer, read_history
from mulcot_rd.training.manifest import trained_posts_fingerprint
from mulcot_rd.training.parameters import ModelParameters, ValidationParameters
from mulcot_rd.training.soft_labels import SoftLabels
from mulcot_rd.worker_pool import WorkerPool

logger = logging.getLogger(__name__)


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


def initial_encoder(parameters: ModelParameters, checkpoint: Mapping[str, Any]) -> InputEncoder:
    """What makes the inputs of a model that is to be trained."""
    return checkpoint_encoder(
        parameters.backbone, checkpoint, image_size=parameters.inputs.image_size, view=parameters.inputs.input_view
    )


def train_model(
    name: str,
    parameters: ModelParameters,
    posts: Sequence[Post],
    examples: Sequence[Example],
    soft_labels: SoftLabels | None,
    checkpoint: Mapping[str, Any],
    encoder: InputEncoder,
    objective: Callable[[TrainedModel], LossFunction],
    models: Path,
) -> dict[str, Any]:
    """Train a model and return the manifest of the best epoch's adapter, which is finished in a folder of its own.

    One that is finished and was made from the same things (:mod:`mulcot_rd.training.identity`) is found again, one in
    work is continued. Nothing finished is touched: whoever saves the manifest puts its folder in use.

    Args:
        name: "assistant" or "student".
        parameters: Its parameters; dev posts are answered by those of generation, with the lengths of validation.
        posts: All posts of the data set; epochs are scored on the dev split.
        examples: The training rows.
        soft_labels: The assistant's distributions at the rows' targets, which each batch then carries; or none.
        checkpoint: Where its weights before training are.
        encoder: Makes the model's inputs.
        objective: Makes of the model what gives one micro-batch's share of its window's loss.
        models: The run's folder of models.

    Raises:
        DamagedError: If the finished one has a file that is missing or was changed.
    """
    backbone, training, seed = parameters.backbone, parameters.training, parameters.seed
    dev = [post for post in posts if post.split == "dev"]
    validation = _validation(name, dev, examples, training.optimisation.validation)
    scored = dev[: validation.posts]
    parts = made_from(examples, scored, soft_labels, backbone, checkpoint["fingerprint"], training, encoder, seed)
    key = fingerprint(name, parts)
    kept = Kept(models, name)
    done = kept.find(key)
    if done is not None:
        verify(Path(done["folder"]), done["files"])
        return done
    work = kept.begin(key, parts)
    started = fresh_model(name, backbone, checkpoint, image_size=encoder.image_size, view=encoder.view, seed=seed)
    model = started.model
    images = ImageStore(work / "images", encoder, model, checkpoint["fingerprint"])

    def validate(step: int, pool: WorkerPool) -> float:
        log = AnswerLog(work / "validation" / str(step), {"training": key, "step": step})
        return _score(started, scored, validation, parameters.generation, log, pool)

    trainer = Trainer(
        role=name,
        learner=Learner(
            model, encoder, Preparation(examples, encoder, images, soft_labels, model.device), objective(model)
        ),
        examples=examples,
        validate=validate,
        parameters=training.optimisation,
        seed=seed,
        folder=work / "training",
        fingerprint=key,
    )
    images.prepare([example.image for example in examples])
    outcome = trainer.run()
    _, trainable = parameter_numbers(model)
    logger.info(
        "%s: kept epoch %d, dev score %.3f, %d rows, %s trained of %s parameters",
        name, outcome.best_epoch, outcome.best_score, len(examples), f"{trainable:,}", f"{started.parameters:,}",
    )  # fmt: skip
    result = empty_folder(kept.result(key))
    for path in [*outcome.best_folder.iterdir(), work / "training" / HISTORY]:
        shutil.copy2(path, result / path.name)
    started.backbone.processor.save_pretrained(result)
    files = file_hashes(result)
    manifest = {
        "role": name,
        "trained": True,
        "fingerprint": key,
        "made_from": parts,
        "weights": files[trained_weights(result).name],
        "files": files,
        "best_epoch": outcome.best_epoch,
        "best_dev_score": outcome.best_score,
        "validation": validation.model_dump(),
        "training_rows": len(examples),
        "parameters": {"total": started.parameters, "trainable": trainable},
        "inputs": encoder.settings,
        "backbone": backbone.model_dump(),
        "base": location_below(checkpoint, models),
        "posts": trained_posts_fingerprint(posts),
        "task_weights": training.task_weights.model_dump(),
        "config": {
            **recorded(parameters, exclude={"generation"}),
            "soft_labels": soft_labels
            and soft_labels.manifest.model_dump(include={"kind", "top_k", "temperature"}, exclude_none=True),
        },
        "versions": {
            "mulcot_rd": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
    }
    write_manifest(result, manifest)
    return {**manifest, "folder": str(result)}


def _validation(
    name: str, dev: Sequence[Post], examples: Sequence[Example], validation: ValidationParameters
) -> ValidationParameters:
    """How epochs are scored: by those of the tasks that are learned."""
    if not dev:
        raise UserError(f"the dev split is empty, so no epoch of the {name} can be scored: give it posts")
    if not examples:
        raise UserError(f"the {name} has no training rows: give the training split posts with reasonings")
    learned = [task for task in validation.tasks if task in examples[0].targets]
    if not learned:
        raise UserError(
            f"the {name} learns {' and '.join(examples[0].targets)}, and its epochs are to be scored by "
            f"{' and '.join(validation.tasks)}: name a task that it learns under validation.tasks"
        )
    return validation.model_copy(update={"tasks": learned})


def history_of(folder: Path) -> list[dict[str, Any]]:
    """The training history kept beside an adapter: losses by step, scores by epoch."""
    # Earlier versions left it in a folder of work.
    former = folder / "work" / HISTORY
    return read_history(former if former.is_file() else folder / HISTORY)


def _score(
    model: LoadedModel,
    posts: Sequence[Post],
    validation: ValidationParameters,
    generation: GenerationParameters,
    log: AnswerLog,
    pool: WorkerPool,
) -> float:
    """The mean over tasks of the score of the labels that the model answers, a fraction."""
    once = generation.model_copy(
        update={
            "max_retries": 0,
            "backend": "local",
            "max_new_tokens": validation.max_new_tokens,
            "max_label_tokens": validation.max_label_tokens,
        }
    )
    with merged_adapter(model.model):
        answers = answer_posts(
            model.model, model.encoder, posts, validation.tasks, once, pool=pool,
            seed=0, log=log, description=f"{model.name}, dev posts by {' and '.join(validation.tasks)} prompt",
        )  # fmt: skip
    gold = [post.label for post in posts]
    scores = [
        classification_scores([answer.reasoning.prediction for answer in answers[task]], gold)[validation.metric]
        for task in validation.tasks
    ]
    return sum(scores) / len(scores)
