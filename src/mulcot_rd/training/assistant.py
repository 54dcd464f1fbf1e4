"""Training of the assistant with two tasks (paper, Section 3.3.1, Eqs. 5 and 6)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mulcot_rd.models import TrainedModel
from mulcot_rd.prompts import Task
from mulcot_rd.schema import Post, TeacherRecord
from mulcot_rd.training.batches import Batch
from mulcot_rd.training.expansion import teacher_rows
from mulcot_rd.training.forward import output_head, target_states
from mulcot_rd.training.objective import StudentLossWeights, TaskWeights, chunked_loss
from mulcot_rd.training.parameters import ModelParameters
from mulcot_rd.training.train import initial_encoder, train_model, training_examples


def train_assistant(
    assistant: ModelParameters,
    posts: Sequence[Post],
    teacher: Sequence[TeacherRecord],
    checkpoint: Mapping[str, Any],
    models: Path,
) -> dict[str, Any]:
    """Train the assistant on the teacher's reasonings and return the manifest of its adapter.

    Args:
        assistant: Its parameters.
        posts: All posts of the data set; rows are of the training split, epochs are scored on the dev split.
        teacher: The teacher's reasonings (``D_rea^t``).
        checkpoint: Where its weights before training are.
        models: The run's folder of models.
    """
    encoder = initial_encoder(assistant, checkpoint)
    rows = teacher_rows(teacher)
    examples = training_examples(rows, posts, encoder, "the teacher's reasoning", assistant.method.tasks)
    return train_model(
        "assistant", assistant, posts, examples, None, checkpoint, encoder,
        lambda model: AssistantObjective(model, assistant.training.weights, len(encoder.tokenizer)), models,
    )  # fmt: skip


@dataclass(frozen=True)
class AssistantObjective:
    """The assistant's objective (Eqs. 5 and 6), or that of a student without soft labels.

    Attributes:
        model: The model in training.
        weights: lambda_cls and lambda_rea.
        vocabulary_size: Token ids that the tokenizer really has.
    """

    model: TrainedModel
    weights: TaskWeights
    vocabulary_size: int

    def __call__(self, batch: Batch, window_tokens: Mapping[Task, int]) -> tuple[Tensor, dict[str, Tensor]]:
        """One micro-batch's share of its window's loss, and the loss of each task before weighting."""
        states, head = target_states(self.model, batch), output_head(self.model)
        weights = StudentLossWeights.without_soft_labels(self.weights, self.vocabulary_size)
        terms = chunked_loss(head, states, batch.targets, None, weights, window_tokens)
        return terms.total, {f"{task}_loss": term for task, term in terms.hard.items()}
