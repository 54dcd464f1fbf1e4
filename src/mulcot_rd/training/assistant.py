"""The assistant's objective: two tasks, learned together (paper, Section 3.3.1, Eqs. 5 and 6)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from mulcot_rd.models import TrainedModel
from mulcot_rd.prompts import Task
from mulcot_rd.training.batches import Batch
from mulcot_rd.training.forward import output_head, target_states
from mulcot_rd.training.objective import StudentLossWeights, TaskWeights, chunked_loss


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

    def terms(self, tasks: Sequence[Task]) -> list[str]:
        """Names of the losses of these tasks."""
        return [f"{task}_loss" for task in tasks]
