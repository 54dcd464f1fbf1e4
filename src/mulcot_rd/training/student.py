"""The student's objective: hard labels and the assistant's soft labels (paper, Section 3.3.2, Eqs. 9 to 13)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from mulcot_rd.models import TrainedModel
from mulcot_rd.prompts import Task
from mulcot_rd.training.batches import Batch
from mulcot_rd.training.forward import output_head, target_states
from mulcot_rd.training.objective import StudentLossWeights, chunked_loss


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

    def terms(self, tasks: Sequence[Task]) -> list[str]:
        """Names of the hard and the soft terms of these tasks."""
        return [*(f"{task}_loss" for task in tasks), *(f"{task}_soft_loss" for task in tasks)]
