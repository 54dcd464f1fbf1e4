"""Distillation of the student from hard and soft labels (paper, Section 3.3.2, Eqs. 9 to 13)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mulcot_rd.models import TrainedModel
from mulcot_rd.prompts import Task
from mulcot_rd.schema import Post, TrainingRow
from mulcot_rd.training.assistant import AssistantObjective
from mulcot_rd.training.batches import Batch
from mulcot_rd.training.forward import output_head, target_states
from mulcot_rd.training.learner import LossFunction
from mulcot_rd.training.objective import StudentLossWeights, chunked_loss
from mulcot_rd.training.parameters import ModelParameters
from mulcot_rd.training.soft_labels import SoftLabels
from mulcot_rd.training.train import initial_encoder, train_model, training_examples


def distil_student(
    student: ModelParameters,
    posts: Sequence[Post],
    rows: Sequence[TrainingRow],
    soft_labels: SoftLabels | None,
    checkpoint: Mapping[str, Any],
    models: Path,
) -> dict[str, Any]:
    """Distil the student and return the manifest of its adapter.

    Args:
        student: Its parameters.
        posts: All posts of the data set; rows are of the training split, epochs are scored on the dev split.
        rows: ``D_rea^all``: the teacher's reasonings and the assistant's correct ones (Eq. 8).
        soft_labels: The assistant's distributions at the targets of these rows; without them the student learns from
            the hard labels alone, with the whole weight of Eq. 13.
        checkpoint: Where its weights before training are.
        models: The run's folder of models.

    Raises:
        SoftLabelError: If the soft labels belong to other rows, targets or inputs, or another tokenizer.
    """
    encoder = initial_encoder(student, checkpoint)
    examples = training_examples(rows, posts, encoder, "the student's training set", student.method.tasks)
    if soft_labels is not None:
        soft_labels.check(encoder, examples, student.training.weights.temperature)
    # Both heads are wider than the tokenizer, and not equally: only ids that exist take part.
    vocabulary = len(encoder.tokenizer)
    weights = student.training.weights.model_copy(update={"vocabulary_size": vocabulary})

    def objective(model: TrainedModel) -> LossFunction:
        if soft_labels is None:
            return AssistantObjective(model, weights.hard, vocabulary)
        return StudentObjective(model, weights)

    return train_model("student", student, posts, examples, soft_labels, checkpoint, encoder, objective, models)


@dataclass(frozen=True)
class StudentObjective:
    """The student's objective (Eqs. 9 to 13).

    Attributes:
        model: The model in training.
        weights: Of its terms, with the vocabulary that both models share.
    """

    model: TrainedModel
    weights: StudentLossWeights

    def __call__(self, batch: Batch, window_tokens: Mapping[Task, int]) -> tuple[Tensor, dict[str, Tensor]]:
        """One micro-batch's share of its window's loss, and each task's hard and soft term before weighting."""
        states, head = target_states(self.model, batch), output_head(self.model)
        terms = chunked_loss(head, states, batch.targets, batch.assistant, self.weights, window_tokens)
        hard = {f"{task}_loss": term for task, term in terms.hard.items()}
        return terms.total, {**hard, **{f"{task}_soft_loss": term for task, term in terms.soft.items()}}
