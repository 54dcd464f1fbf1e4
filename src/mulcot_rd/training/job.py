"""Training of one model, as every process of a group does it: what assistant and student have in common."""

import logging
import shutil
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal, cast

import peft
import torch
import transformers

from mulcot_rd import __version__
from mulcot_rd.credentials import recorded
from mulcot_rd.distributed import Group, Job
from mulcot_rd.errors import UserError
from mulcot_rd.files import empty_folder, write_text
from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.generation import AnswerLog, GenerationParameters, answer_posts, kept_answers
from mulcot_rd.kept import Kept, file_hashes, write_manifest
from mulcot_rd.metrics import classification_scores
from mulcot_rd.models import TrainedModel, parameter_numbers, trained_weights
from mulcot_rd.models.card import CARD, model_card
from mulcot_rd.models.checkpoint import location_below
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.models.loaded import LoadedModel, checkpoint_encoder, fresh_model
from mulcot_rd.models.lora import merged_adapter
from mulcot_rd.models.sharding import shard_frozen, unsharded
from mulcot_rd.schema import Post, TrainingRow
from mulcot_rd.training.assistant import AssistantObjective
from mulcot_rd.training.batches import Batch, Example, micro_batches, training_examples, windows
from mulcot_rd.training.identity import made_from
from mulcot_rd.training.images import ImageStore
from mulcot_rd.training.loop import HISTORY, Objective, Trainer, TrainingOutcome
from mulcot_rd.training.manifest import asked_about, trained_posts_fingerprint
from mulcot_rd.training.objective import StudentLossWeights
from mulcot_rd.training.parameters import ModelParameters, StudentTrainingParameters, ValidationParameters
from mulcot_rd.training.prefetch import Preparation
from mulcot_rd.training.soft_labels import SoftLabels
from mulcot_rd.training.student import StudentObjective

logger = logging.getLogger(__name__)


class TrainingJob(Job):
    """Training of one model, the same in all processes; rank 0 writes the finished one and returns its manifest.

    Attributes:
        name: "assistant" or "student"; "student_preference" is :mod:`mulcot_rd.preference.job`.
        parameters: Its parameters; dev posts are answered by those of generation, with the lengths of validation.
        posts: All posts of the data set; rows are of the training split, epochs are scored on the dev split.
        rows: The training rows: the teacher's reasonings (``D_rea^t``), for the student those of the assistant too
            (``D_rea^all``, Eq. 8).
        soft_labels: Folder of the assistant's distributions at the rows' targets, or none: the student then learns
            from the hard labels alone, with the whole weight of Eq. 13.
        checkpoint: Where its weights before training are.
        models: The run's folder of models.
    """

    name: Literal["assistant", "student", "student_preference"]
    parameters: ModelParameters
    posts: list[Post]
    rows: list[TrainingRow]
    soft_labels: Path | None
    checkpoint: dict[str, Any]
    models: Path

    @cached_property
    def encoder(self) -> InputEncoder:
        """What makes the model's inputs."""
        inputs = self.parameters.inputs
        return checkpoint_encoder(
            self.parameters.backbone, self.checkpoint, image_size=inputs.image_size, view=inputs.input_view
        )

    @cached_property
    def examples(self) -> list[Example]:
        """The training rows, tokenised for the tasks that are learned."""
        what = "the teacher's reasoning" if self.name == "assistant" else "the student's training set"
        return training_examples(self.rows, self.posts, self.encoder, what, self.parameters.method.tasks)

    @cached_property
    def assistant(self) -> SoftLabels | None:
        """The assistant's distributions.

        Raises:
            SoftLabelError: If they belong to other rows, targets or inputs, or another tokenizer.
        """
        if self.soft_labels is None:
            return None
        stored = SoftLabels(self.soft_labels)
        stored.check(self.encoder, self.examples, self._student_weights.temperature)
        return stored

    @property
    def _student_weights(self) -> StudentLossWeights:
        return cast(StudentTrainingParameters, self.parameters.training).weights

    @cached_property
    def validation(self) -> ValidationParameters:
        """How epochs are scored: by those of the tasks that are learned."""
        tasks, validation = self.parameters.method.tasks, self.parameters.training.optimisation.validation
        if not self.examples:
            raise UserError(f"the {self.name} has no training rows: give the training split posts with reasonings")
        if not self._dev:
            raise UserError(f"the dev split is empty, so no epoch of the {self.name} can be scored: give it posts")
        learned = [task for task in validation.tasks if task in tasks]
        if not learned:
            raise UserError(
                f"the {self.name} learns {' and '.join(tasks)}, and its epochs are to be scored by "
                f"{' and '.join(validation.tasks)}: name a task that it learns under validation.tasks"
            )
        return validation.model_copy(update={"tasks": learned})

    @cached_property
    def scored(self) -> list[Post]:
        """The posts that epochs are scored on."""
        return self._dev[: self.validation.posts]

    @cached_property
    def made_from(self) -> dict[str, Any]:
        """Everything that the trained weights depend on (:mod:`mulcot_rd.training.identity`)."""
        parameters = self.parameters
        return made_from(
            self.examples, self.scored, self.assistant, parameters.backbone, self.checkpoint["fingerprint"],
            parameters.training, self.encoder, parameters.seed,
        )  # fmt: skip

    @cached_property
    def fingerprint(self) -> str:
        """Of everything that the trained weights depend on."""
        return fingerprint(self.name, self.made_from)

    @property
    def most_workers(self) -> int:
        """Micro-batches of the largest window."""
        optimisation = self.parameters.training.optimisation
        lengths = [example.length for example in self.examples]
        rows = optimisation.batch_size * optimisation.gradient_accumulation_steps
        order = windows(lengths, rows, self.parameters.seed, epoch=0)
        cut = (micro_batches(window, optimisation.batch_size, lengths, optimisation.batch_tokens) for window in order)
        return max(len(list(pieces)) for pieces in cut)

    @property
    def _dev(self) -> list[Post]:
        return [post for post in self.posts if post.split == "dev"]

    def run(self, group: Group) -> dict[str, Any] | None:
        """Train, going on where an earlier start stopped; returns the manifest at rank 0."""
        parameters, encoder, cluster = self.parameters, self.encoder, self.parameters.cluster
        work = Kept(self.models, self.name).work(self.fingerprint)
        started = self._start()
        model = started.model
        _, trainable = parameter_numbers(model)
        images = ImageStore(work / "images", encoder, model, self.checkpoint["fingerprint"])
        images.prepare([example.image for example in self.examples], group)
        if cluster.shard_base:
            shard_frozen(model, group)

        def validate(step: int) -> dict[str, float]:
            log = AnswerLog(work / "validation" / str(step), {"training": self.fingerprint, "step": step})
            with unsharded(model), merged_adapter(model):
                return _score(started, self.scored, self.validation, parameters.generation, log, group)

        trainer = Trainer(
            name=self.name,
            model=model,
            objective=self._objective(model),
            prepare=self._preparation(model, images, group),
            examples=self.examples,
            validate=validate,
            parameters=parameters.training.optimisation,
            seed=parameters.seed,
            folder=work / "training",
            fingerprint=self.fingerprint,
            group=group,
            gradient_dtype=getattr(torch, cluster.gradient_sum),
            sharded=cluster.shard_base,
        )
        if group.is_first and trainer.state.step == 0:
            # An earlier training may have left its dev answers here, under the same steps.
            empty_folder(work / "validation")
        outcome = trainer.run()
        if outcome is None:
            return None
        logger.info(
            "%s: kept epoch %d, dev score %.3f, %d rows, %s trained of %s parameters",
            self.name, outcome.best_epoch, outcome.best_score, len(self.examples), f"{trainable:,}",
            f"{started.parameters:,}",
        )  # fmt: skip
        return self._finish(outcome, started, trainable)

    def _start(self) -> LoadedModel:
        """The model before its first step."""
        parameters, encoder = self.parameters, self.encoder
        return fresh_model(
            self.name, parameters.backbone, self.checkpoint,
            image_size=encoder.image_size, view=encoder.view, seed=parameters.seed,
        )  # fmt: skip

    def _preparation(self, model: TrainedModel, images: ImageStore, group: Group) -> Callable[[Sequence[int]], Batch]:
        """What makes the micro-batches; ``model`` is still as :meth:`_start` gave it."""
        return Preparation(self.examples, self.encoder, images, self.assistant, model.device)

    def _objective(self, model: TrainedModel) -> Objective:
        # Both heads are wider than the tokenizer, and not equally: only ids that exist take part.
        vocabulary, training = len(self.encoder.tokenizer), self.parameters.training
        if self.assistant is None:
            return AssistantObjective(model, training.task_weights, vocabulary)
        return StudentObjective(model, self._student_weights.model_copy(update={"vocabulary_size": vocabulary}))

    def _finish(self, outcome: TrainingOutcome, started: LoadedModel, trainable: int) -> dict[str, Any]:
        """Put the finished model together; its manifest comes last."""
        kept, parameters, soft_labels = Kept(self.models, self.name), self.parameters, self.assistant
        result = empty_folder(kept.result(self.fingerprint))
        history = kept.work(self.fingerprint) / "training" / HISTORY
        for path in [*outcome.best_folder.iterdir(), history]:
            shutil.copy2(path, result / path.name)
        started.backbone.processor.save_pretrained(result)
        files = file_hashes(result)
        manifest = {
            "role": self.name,
            "trained": True,
            "fingerprint": self.fingerprint,
            "made_from": self.made_from,
            "weights": files[trained_weights(result).name],
            "files": files,
            "best_epoch": outcome.best_epoch,
            "best_dev_score": outcome.best_score,
            "validation": self.validation.model_dump(),
            "training_rows": len(self.examples),
            "parameters": {"total": started.parameters, "trainable": trainable},
            "inputs": self.encoder.settings,
            "backbone": parameters.backbone.model_dump(),
            "base": location_below(self.checkpoint, self.models),
            "posts": trained_posts_fingerprint(self.posts),
            "asked_about": asked_about([post for post in self.posts if post.split == "train"]),
            "task_weights": parameters.training.task_weights.model_dump(),
            "config": {
                **recorded(parameters, exclude={"generation", "cluster"}),
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
        # In place of peft's template, and outside of the manifest, for a person may change it.
        write_text(result / CARD, model_card(manifest, self.encoder))
        write_manifest(result, manifest)
        return {**manifest, "folder": str(result)}


def _score(
    model: LoadedModel,
    posts: Sequence[Post],
    validation: ValidationParameters,
    generation: GenerationParameters,
    log: AnswerLog,
    group: Group,
) -> dict[str, float]:
    """The mean over tasks of the score of the labels that the model answers, a fraction, and the reasonings' length."""
    lengths = validation.model_dump(include={"max_new_tokens", "max_label_tokens"})
    own = answer_posts(
        model.model, model.encoder, posts, validation.tasks,
        generation.model_copy(update={"max_retries": 0, **lengths}),
        seed=0, log=log, description=f"{model.name}, dev posts by {' and '.join(validation.tasks)} prompt", group=group,
    )  # fmt: skip
    answers = kept_answers(chain.from_iterable(group.gather(own)), posts, validation.tasks)
    gold = [post.label for post in posts]
    scores = [
        classification_scores([answer.reasoning.prediction for answer in answers[task]], gold)[validation.metric]
        for task in validation.tasks
    ]
    words = [len(answer.text.split()) for answer in answers.get("reasoning", ())]
    return {"score": sum(scores) / len(scores), **({"reasoning_words": sum(words) / len(words)} if words else {})}
