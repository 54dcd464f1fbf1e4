"""Preference optimisation of the student: :mod:`mulcot_rd.training.job` on pairs, from the student's own start."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import torch

from mulcot_rd.distributed import Group
from mulcot_rd.errors import StaleInputError
from mulcot_rd.kept import Kept, run_folder
from mulcot_rd.models import TrainedModel
from mulcot_rd.models.checkpoint import located
from mulcot_rd.models.loaded import LoadedModel, load_model, model_identity, model_manifest
from mulcot_rd.preference.batches import PairBatch, PairPreparation, make_pair_example
from mulcot_rd.preference.objective import PreferenceObjective, reference_log_probs
from mulcot_rd.schema import Post, PreferencePair
from mulcot_rd.training.batches import Example
from mulcot_rd.training.images import ImageStore
from mulcot_rd.training.job import TrainingJob
from mulcot_rd.training.parameters import ModelParameters, PreferenceTrainingParameters
from mulcot_rd.training.prefetch import Preparation
from mulcot_rd.training.train import finished


class PreferenceJob(TrainingJob):
    """Training of a distilled student on preference pairs; the student as it is before is the reference.

    Attributes:
        pairs: Of posts of the training split.
        student: The distilled student's folder.
    """

    name: Literal["student_preference"] = "student_preference"
    pairs: list[PreferencePair]
    student: Path

    @cached_property
    def examples(self) -> list[Example]:
        """The pairs, tokenised.

        Raises:
            StaleInputError: If one is of no training post.
        """
        training = {post.id: post for post in self.posts if post.split == "train"}
        if strangers := [pair.post_id for pair in self.pairs if pair.post_id not in training]:
            raise StaleInputError(
                f"the preference pairs name post {strangers[0]}, which is not in the training split at hand: use the "
                "--params that they were made with (limit), or run the pipeline preference_pairs again"
            )
        tasks = self.parameters.method.tasks
        return [make_pair_example(pair, training[pair.post_id], self.encoder, tasks) for pair in self.pairs]

    @cached_property
    def made_from(self) -> dict[str, Any]:
        """As for any training, with the student that it starts from."""
        return {**super().made_from, "student": model_identity(model_manifest(self.student))}

    def _start(self) -> LoadedModel:
        """The distilled student, to be trained on; dropout is off, as in TRL: the reference has none either."""
        started = load_model(self.student, self.parameters.backbone, trainable=True)
        for module in started.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            elif isinstance(vars(module).get("dropout"), float):
                # T5's attention has no module for it.
                module.dropout = 0.0
        return replace(started, name=self.name)

    def _preparation(
        self, model: TrainedModel, images: ImageStore, group: Group
    ) -> Callable[[Sequence[int]], PairBatch]:
        rows = Preparation(self.examples, self.encoder, images, None, model.device)
        reference = reference_log_probs(
            model, len(self.examples), rows, len(self.encoder.tokenizer),
            batch_size=self.parameters.training.optimisation.batch_size,
            file=Kept(self.models, self.name).work(self.fingerprint) / "reference.safetensors",
            group=group,
        )  # fmt: skip
        return PairPreparation(rows, reference)

    def _objective(self, model: TrainedModel) -> PreferenceObjective:
        training = cast(PreferenceTrainingParameters, self.parameters.training)
        return PreferenceObjective(model, training, len(self.encoder.tokenizer))


def optimise_preferences(
    student: dict[str, Any],
    pairs: Sequence[PreferencePair],
    posts: Sequence[Post],
    parameters: ModelParameters,
    training: PreferenceTrainingParameters,
    models: Path,
) -> dict[str, Any]:
    """Train the distilled student on pairs and return the manifest of the best epoch's model.

    One that is finished is found again, one in work is continued, as in :func:`mulcot_rd.training.train.train_model`,
    whose errors these are, too.

    Args:
        student: The distilled student's manifest, with its folder.
        pairs: Preference pairs of training posts.
        posts: All posts of the data set; epochs are scored on the dev split.
        parameters: Of the student.
        training: Objective and optimisation.
        models: The run's folder of models.
    """
    folder = Path(student["folder"])
    # Dev posts are answered by the model in training.
    own = parameters.model_copy(update={"training": training, "generation": parameters.generation.local()})
    return finished(
        PreferenceJob(
            parameters=own,
            posts=list(posts),
            rows=[],
            soft_labels=None,
            checkpoint=located(parameters.backbone, student["base"], run_folder(folder)),
            models=models,
            pairs=list(pairs),
            student=folder,
        )
    )
