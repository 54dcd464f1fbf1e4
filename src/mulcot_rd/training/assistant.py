"""Training of the assistant with two tasks (paper, Section 3.3.1, Eqs. 5 and 6)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mulcot_rd.generation import GenerationParameters
from mulcot_rd.generation.expansion import teacher_rows
from mulcot_rd.models import BackboneParameters, TrainedModel
from mulcot_rd.prompts import TASKS, WHOLE_POST, Task
from mulcot_rd.schema import Post, Presentation, TeacherRecord
from mulcot_rd.training.batches import Batch
from mulcot_rd.training.forward import target_states
from mulcot_rd.training.fused import fused_multi_task_loss, output_head
from mulcot_rd.training.objective import TaskWeights
from mulcot_rd.training.parameters import AssistantTrainingParameters
from mulcot_rd.training.roles import role_encoder
from mulcot_rd.training.train import train_role, training_examples


def train_assistant(
    posts: Sequence[Post],
    teacher: Sequence[TeacherRecord],
    backbone: BackboneParameters,
    prepared: Mapping[str, Any],
    training: AssistantTrainingParameters,
    generation: GenerationParameters,
    *,
    image_size: int,
    seed: int,
    models: Path,
    shown: Presentation = WHOLE_POST,
    tasks: Sequence[Task] = TASKS,
) -> dict[str, Any]:
    """Train the assistant on the teacher's reasonings and return the manifest of its adapter.

    Args:
        posts: All posts of the data set; rows are of the training split, epochs are scored on the dev split.
        teacher: The teacher's reasonings (``D_rea^t``).
        backbone: The assistant's backbone.
        prepared: Where its weights are.
        training: Weights of the tasks, optimiser, schedule and batches.
        generation: How dev posts are answered.
        image_size: Side of the images in pixels.
        seed: Of adapter, order and dropout.
        models: The run's folder of models.
        shown: What of a post the model sees.
        tasks: What it learns.
    """
    encoder = role_encoder(backbone, prepared, image_size=image_size, shown=shown)
    examples = training_examples(teacher_rows(teacher), posts, encoder, "the teacher's reasoning", tasks)
    return train_role(
        "assistant", posts, examples, None, backbone, prepared, training, generation, encoder,
        lambda role: AssistantObjective(role.model, training.weights, len(encoder.tokenizer)),
        seed=seed, models=models,
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
        terms = fused_multi_task_loss(head, states, batch.targets, self.weights, window_tokens, self.vocabulary_size)
        return terms.total, {f"{task}_loss": term for task, term in terms.hard.items()}
