"""The objectives of assistant and student (paper, Eqs. 5, 6 and 9 to 13), in plain form and as used in training.

Both tasks are normalised by their own number of target tokens: a label target has a handful, a reasoning target
hundreds. Over an accumulation window that number is known before the first micro-batch, so the sum over the
window's micro-batches equals the loss of the whole window at once, whatever the batch size.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name that PyTorch's own documentation uses
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor


class TaskWeights(BaseModel):
    """Weights of the two tasks (paper, Section 4.1.3 and Appendix D.1)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: float = Field(0.2, ge=0, description="lambda_cls, weight of the classification task")
    reasoning: float = Field(0.8, ge=0, description="lambda_rea, weight of the reasoning task")

    def of(self, task: str) -> float:
        """The weight of a task named "label" or "reasoning"."""
        return {"label": self.label, "reasoning": self.reasoning}[task]


class StudentLossWeights(BaseModel):
    """Everything that weighs the student's objective (Eqs. 10, 12 and 13)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hard: TaskWeights = Field(TaskWeights(), description="Weights of the hard-label losses (Eq. 12)")
    soft: TaskWeights = Field(TaskWeights(), description="Weights of the soft-label losses (Eq. 12)")
    distillation: float = Field(0.3, ge=0, le=1, description="lambda of Eq. 13 (Appendix D.2)")
    temperature: float = Field(2.0, gt=0, description="tau of Eq. 10; the paper gives no value, the released code 2")
    vocabulary_size: int | None = Field(
        None,
        ge=1,
        description="Token ids that the shared tokenizer really has; both heads are cut to it before the softmax. "
        "Null cuts both to the narrower head",
    )


@dataclass(frozen=True)
class StudentLoss:
    """The student's loss and its terms; all are scalars that carry gradients.

    Attributes:
        total: Eq. 13.
        hard: Cross-entropy of each task (Eq. 9), before weighting.
        soft: Kullback-Leibler divergence of each task (Eq. 11), before weighting.
    """

    total: Tensor
    hard: dict[str, Tensor]
    soft: dict[str, Tensor]


def reference_student_loss(
    student_logits: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    assistant_logits: Mapping[str, Tensor],
    weights: StudentLossWeights,
) -> StudentLoss:
    """The student's objective in plain form (Eqs. 9 to 13); everything faster is tested equal to this.

    Args:
        student_logits: Task name ("label", "reasoning") to logits [N, V_student] at the N target positions.
        targets: Task name to target token ids [N].
        assistant_logits: Task name to logits [N, V_assistant] at the same positions.
        weights: Task weights, lambda, temperature, and the vocabulary that both models share.

    Returns:
        Total, hard and soft terms; each term is the mean over its task's N positions.

    Raises:
        ValueError: If tasks or shapes disagree, a task is empty, or a target lies outside the shared vocabulary.
    """
    counts = {task: len(ids) for task, ids in targets.items()}
    return windowed_student_loss(student_logits, targets, assistant_logits, weights, counts)


def windowed_student_loss(
    student_logits: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    assistant_logits: Mapping[str, Tensor],
    weights: StudentLossWeights,
    window_tokens: Mapping[str, int],
) -> StudentLoss:
    """One micro-batch's share of the objective of its accumulation window.

    Args:
        student_logits: As for :func:`reference_student_loss`.
        targets: As for :func:`reference_student_loss`.
        assistant_logits: As for :func:`reference_student_loss`.
        weights: As for :func:`reference_student_loss`.
        window_tokens: Task name to the number of target tokens in the whole window. The shares of all
            micro-batches of the window add up to the reference loss of the window.
    """
    check_tasks(student_logits, targets, assistant_logits, window_tokens)
    hard: dict[str, Tensor] = {}
    soft: dict[str, Tensor] = {}
    for task, student in student_logits.items():
        hard[task], soft[task] = _task_terms(
            student, targets[task], assistant_logits[task], weights, count=window_tokens[task], task=task
        )
    return StudentLoss(_total(hard, soft, weights), hard, soft)


@dataclass(frozen=True)
class MultiTaskLoss:
    """The multi-task loss without soft labels (Eq. 6) and its terms.

    Attributes:
        total: Eq. 6.
        hard: Cross-entropy of each task (Eq. 5), before weighting.
    """

    total: Tensor
    hard: dict[str, Tensor]


def windowed_multi_task_loss(
    logits: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    weights: TaskWeights,
    window_tokens: Mapping[str, int],
    vocabulary_size: int,
) -> MultiTaskLoss:
    """One micro-batch's share of the assistant's objective (Eqs. 5 and 6).

    Args:
        logits: Task name to logits [N, V] at the N target positions of the micro-batch.
        targets: Task name to target token ids [N].
        weights: lambda_cls and lambda_rea.
        window_tokens: Task name to the number of target tokens in the whole accumulation window.
        vocabulary_size: Token ids that the tokenizer really has; the head's other columns are cut off.

    Raises:
        ValueError: If tasks or shapes disagree, a task is empty, or a target lies outside the vocabulary.
    """
    check_untaught(logits, targets, window_tokens, vocabulary_size)
    hard = {
        task: F.cross_entropy(_wide(values[:, :vocabulary_size]), targets[task], reduction="sum") / window_tokens[task]
        for task, values in logits.items()
    }
    total = sum((weights.of(task) * term for task, term in hard.items()), start=_zero(hard))
    return MultiTaskLoss(total, hard)


def checked_vocabulary(student: int, assistant: int, shared: int | None) -> int:
    """The columns that take part in the softmax, of heads of ``student`` and ``assistant`` columns.

    Raises:
        ValueError: If the named vocabulary is wider than a head.
    """
    columns = shared or min(student, assistant)
    if columns > min(student, assistant):
        raise ValueError(f"a vocabulary of {columns} ids does not fit heads of {student} and {assistant} columns")
    return columns


def check_tasks(*by_task: Mapping[str, object]) -> None:
    """Refuse what does not have the same tasks: one that is missing somewhere would silently not count.

    Raises:
        ValueError: If the task names differ.
    """
    names = [sorted(each) for each in by_task]
    if any(each != names[0] for each in names):
        told = "; ".join(", ".join(each) or "none" for each in names)
        raise ValueError(f"outputs, targets and counts are of different tasks: {told}")


def check_task(task: str, student: int, targets: Tensor, assistant: int, count: int, columns: int) -> None:
    """Refuse what can't be a task's positions.

    Args:
        task: The task's name.
        student: Positions of the student's outputs.
        targets: Target token ids [N].
        assistant: Positions of the assistant's outputs.
        count: Target tokens of the whole window.
        columns: Token ids that the vocabulary has.

    Raises:
        ValueError: If shapes disagree, the task is empty, or a target lies outside the vocabulary.
    """
    if not student == len(targets) == assistant:
        raise ValueError(
            f"the {task} task has {student} student rows, {len(targets)} targets and {assistant} assistant "
            "rows; they must be the same positions"
        )
    if count == 0:
        raise ValueError(f"the {task} task has no target token")
    outside = targets[(targets < 0) | (targets >= columns)]
    if len(outside):
        raise ValueError(
            f"target id {int(outside[0])} of the {task} task lies outside the shared vocabulary of {columns} ids"
        )


def check_untaught(
    outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], counts: Mapping[str, int], columns: int
) -> None:
    """Refuse what can't be the tasks of a loss without soft labels, as :func:`check_tasks` and :func:`check_task` do.

    Args:
        outputs: Task name to the model's outputs at the N target positions [N, ...].
        targets: Task name to target token ids [N].
        counts: Task name to the target tokens of the whole window.
        columns: Token ids that the vocabulary has.
    """
    check_tasks(outputs, targets, counts)
    for task, values in outputs.items():
        check_task(task, len(values), targets[task], len(values), counts[task], columns)


def _task_terms(
    student: Tensor, targets: Tensor, assistant: Tensor, weights: StudentLossWeights, count: int, task: str
) -> tuple[Tensor, Tensor]:
    columns = checked_vocabulary(student.shape[1], assistant.shape[1], weights.vocabulary_size)
    check_task(task, len(student), targets, len(assistant), count, columns)
    student = _wide(student[:, :columns])
    assistant = assistant[:, :columns].to(student.dtype)
    hard = F.cross_entropy(student, targets, reduction="sum") / count
    # kl_div takes the student's log-probabilities first: this is KL(assistant, student), Eq. 11.
    soft = (
        F.kl_div(
            F.log_softmax(student / weights.temperature, dim=-1),
            F.log_softmax(assistant / weights.temperature, dim=-1),
            reduction="sum",
            log_target=True,
        )
        / count
    )
    return hard, soft


def _wide(logits: Tensor) -> Tensor:
    """Reduced precision is for the models: probabilities over a vocabulary are summed in float32 at least."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _total(hard: Mapping[str, Tensor], soft: Mapping[str, Tensor], weights: StudentLossWeights) -> Tensor:
    hard_sum = sum((weights.hard.of(task) * term for task, term in hard.items()), start=_zero(hard))
    soft_sum = sum((weights.soft.of(task) * term for task, term in soft.items()), start=_zero(soft))
    return (1 - weights.distillation) * hard_sum + weights.distillation * soft_sum


def _zero(terms: Mapping[str, Tensor]) -> Tensor:
    return torch.zeros_like(next(iter(terms.values())))
