"""The objectives of assistant and student (paper, Eqs. 5, 6 and 9 to 13).

:func:`reference_student_loss` states them on logits. Training calls :func:`chunked_loss`, which has the same values
and gradients for a few positions at a time (:mod:`mulcot_rd.training.gradients`): the logits of a long answer over a
vocabulary of 150,000 ids take a hundred megabytes, several times over with softmax and gradients. A chunk's gradient is
made in the forward pass, so no logits are kept and none are computed twice.

Both tasks are normalised by their own number of target tokens: a label target has a handful, a reasoning target
hundreds. Over an accumulation window that number is known before the first micro-batch, so the sum over the
window's micro-batches equals the loss of the whole window at once, whatever the batch size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the name that PyTorch's own documentation uses
from pydantic import Field
from torch import Tensor
from torch.autograd.function import once_differentiable

from mulcot_rd.prompts import Task
from mulcot_rd.schema import Record
from mulcot_rd.training.distributions import (
    Distributions,
    LogitDistributions,
    StoredDistributions,
    linear_into,
    rows_at_once,
)
from mulcot_rd.training.forward import OutputHead
from mulcot_rd.training.gradients import ChunkBuffers, chunk_gradient


class TaskWeights(Record):
    """Weights of the two tasks (paper, Section 4.1.3 and Appendix D.1)."""

    label: float = Field(0.2, ge=0, description="lambda_cls, weight of the classification task")
    reasoning: float = Field(0.8, ge=0, description="lambda_rea, weight of the reasoning task")

    def of(self, task: str) -> float:
        """The weight of a task named "label" or "reasoning"."""
        return {"label": self.label, "reasoning": self.reasoning}[task]


class StudentLossWeights(Record):
    """Everything that weighs the student's objective (Eqs. 10, 12 and 13)."""

    hard: TaskWeights = Field(TaskWeights(), description="Weights of the hard-label losses (Eq. 12)")
    soft: TaskWeights = Field(TaskWeights(), description="Weights of the soft-label losses (Eq. 12)")
    kd_ratio: float = Field(0.3, ge=0, le=1, description="lambda of Eq. 13 (Appendix D.2)")
    temperature: float = Field(2.0, gt=0, description="tau of Eq. 10; the paper gives no value, the released code 2")
    vocabulary_size: int | None = Field(
        None,
        ge=1,
        description="Token ids that the shared tokenizer really has; both heads are cut to it before the softmax. "
        "Null cuts both to the narrower head",
    )

    @classmethod
    def without_soft_labels(cls, weights: TaskWeights, vocabulary_size: int) -> "StudentLossWeights":
        """The weights that make Eq. 13 the multi-task loss of Eq. 6."""
        return cls(hard=weights, kd_ratio=0.0, vocabulary_size=vocabulary_size)


class TaskLoss(NamedTuple):
    """A task's share of a loss: its part of the total, and its cross-entropy and divergence before weighting."""

    total: Tensor
    hard: Tensor
    soft: Tensor


@dataclass(frozen=True)
class Loss:
    """A loss and its terms, scalars.

    Attributes:
        total: Eq. 13; Eq. 6 without soft labels.
        hard: Cross-entropy of each task (Eqs. 5 and 9), before weighting.
        soft: Kullback-Leibler divergence of each task (Eq. 11), before weighting; 0 without soft labels.
    """

    total: Tensor
    hard: dict[Task, Tensor]
    soft: dict[Task, Tensor]

    @classmethod
    def of(cls, tasks: Mapping[Task, TaskLoss]) -> "Loss":
        """The sum over the tasks (Eqs. 6 and 12)."""
        total = torch.stack([part.total for part in tasks.values()]).sum()
        return cls(
            total, {task: part.hard for task, part in tasks.items()}, {task: part.soft for task, part in tasks.items()}
        )


def task_loss(
    task: Task,
    logits: Tensor,
    targets: Tensor,
    assistant: Distributions | None,
    weights: StudentLossWeights,
    count: int,
) -> TaskLoss:
    """The loss of n positions of one task (Eqs. 9 to 13; without an assistant Eqs. 5 and 6).

    Args:
        task: "label" or "reasoning".
        logits: The model's logits [n, V], cut to the ids that exist.
        targets: Target token ids [n].
        assistant: The assistant's n distributions over the same ids, or ``None`` without soft labels.
        weights: Task weights, lambda and temperature.
        count: The task's target tokens in the whole window.
    """
    # Reduced precision is for the models: probabilities over a vocabulary are summed in float32 at least.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    hard = F.cross_entropy(logits, targets, reduction="sum") / count
    if assistant is None:
        soft = torch.zeros_like(hard)
    else:
        soft = assistant.divergence(logits, weights.temperature).sum() / count
    return TaskLoss(_weighted(task, hard, soft, weights), hard, soft)


def _term_weights(task: Task, weights: StudentLossWeights) -> tuple[float, float]:
    """What the two terms of a task weigh in the total (Eqs. 12 and 13)."""
    return (1 - weights.kd_ratio) * weights.hard.of(task), weights.kd_ratio * weights.soft.of(task)


def _weighted(task: Task, hard: Tensor, soft: Tensor, weights: StudentLossWeights) -> Tensor:
    ce_weight, kl_weight = _term_weights(task, weights)
    return ce_weight * hard + kl_weight * soft


def reference_student_loss(
    student_logits: Mapping[Task, Tensor],
    targets: Mapping[Task, Tensor],
    assistant_logits: Mapping[Task, Tensor],
    weights: StudentLossWeights,
) -> Loss:
    """The student's objective in plain form (Eqs. 9 to 13).

    Args:
        student_logits: Task name ("label", "reasoning") to logits [N, V_student] at the N target positions.
        targets: Task name to target token ids [N].
        assistant_logits: Task name to logits [N, V_assistant] at the same positions.
        weights: Task weights, lambda, temperature, and the vocabulary that both models share.

    Returns:
        Total, hard and soft terms, all with gradients; each term is the mean over its task's N positions.

    Raises:
        ValueError: If tasks or shapes disagree, a task is empty, or a target lies outside the shared vocabulary.
    """
    counts = {task: len(ids) for task, ids in targets.items()}
    return plain_loss(student_logits, targets, assistant_logits, weights, counts)


def plain_loss(
    logits: Mapping[Task, Tensor],
    targets: Mapping[Task, Tensor],
    assistant_logits: Mapping[Task, Tensor] | None,
    weights: StudentLossWeights,
    window_tokens: Mapping[Task, int],
) -> Loss:
    """One micro-batch's share of the objective of its accumulation window, from logits.

    Args:
        logits: Task name to the model's logits [N, V] at the N target positions of the micro-batch.
        targets: Task name to target token ids [N].
        assistant_logits: Task name to the assistant's logits [N, V_assistant], or ``None`` without soft labels.
        weights: As for :func:`reference_student_loss`.
        window_tokens: Task name to the number of target tokens in the whole window. The shares of all
            micro-batches of the window add up to the loss of the window.

    Raises:
        ValueError: As :func:`reference_student_loss`; also if lambda is above 0 and there are no soft labels.
    """
    assistant = None
    if assistant_logits is not None:
        assistant = {task: LogitDistributions(values) for task, values in assistant_logits.items()}
    width = next(iter(logits.values())).shape[1]
    columns = _shared_vocabulary(logits, width, targets, assistant, weights, window_tokens)
    parts = {}
    for task, values in logits.items():
        own = None if assistant is None else assistant[task].cut(columns)
        parts[task] = task_loss(task, values[:, :columns], targets[task], own, weights, window_tokens[task])
    return Loss.of(parts)


def chunked_loss(
    head: OutputHead,
    states: Mapping[Task, Tensor],
    targets: Mapping[Task, Tensor],
    assistant: Mapping[Task, StoredDistributions] | None,
    weights: StudentLossWeights,
    window_tokens: Mapping[Task, int],
    chunk_rows: int | None = None,
) -> Loss:
    """What :func:`plain_loss` gives, from hidden states; this is what training calls.

    Args:
        head: The model's output head, V columns; it gets a gradient if it is trained.
        states: Task name to the model's last hidden states [N, H] at the N target positions.
        targets: Task name to target token ids [N].
        assistant: Task name to the assistant's distributions at the same positions, or ``None`` without soft labels.
        weights: As for :func:`plain_loss`.
        window_tokens: As for :func:`plain_loss`.
        chunk_rows: Positions whose logits are held at one time; by default :func:`rows_at_once`.

    Returns:
        The total carries gradients; the terms are for records and carry none.

    Raises:
        ValueError: As :func:`plain_loss`.
    """
    columns = _shared_vocabulary(states, len(head.weight), targets, assistant, weights, window_tokens)
    head = head.cut(columns)
    trained = [tensor for tensor in (head.weight, head.bias) if tensor is not None and tensor.requires_grad]
    of_head = [torch.zeros_like(tensor) for tensor in trained]
    longest = max(len(values) for values in states.values())
    rows = min(chunk_rows or rows_at_once(columns, head.weight.device), longest)
    # Reduced precision is for the models: probabilities over a vocabulary are summed in float32 at least.
    dtype = torch.promote_types(head.weight.dtype, torch.float32)
    buffers = ChunkBuffers(rows, columns, dtype, head.weight.device)
    of_states, parts = [], {}
    with torch.no_grad():
        for task, values in states.items():
            ids, own = targets[task].to(values.device), None if assistant is None else assistant[task].cut(columns)
            ce_weight, kl_weight = (weight / window_tokens[task] for weight in _term_weights(task, weights))
            gradient, terms = torch.empty_like(values), []
            for start in range(0, len(values), rows):
                at = slice(start, start + rows)
                inputs = values[at] if head.scale == 1.0 else values[at] * head.scale
                logits = linear_into(buffers.logits, inputs, head.weight, head.bias)
                soft_labels = None if own is None else own[at]
                losses = chunk_gradient(
                    logits, ids[at], soft_labels, ce_weight, kl_weight, weights.temperature, buffers
                )
                terms.append(torch.stack(losses).sum(dim=1) / window_tokens[task])
                of_logits = logits.to(values.dtype)
                torch.mm(of_logits, head.weight, out=gradient[at])
                for sum_, tensor in zip(of_head, trained, strict=True):
                    if tensor is head.weight:
                        sum_.addmm_(of_logits.T, inputs)
                    else:
                        sum_.add_(of_logits.sum(dim=0))
            of_states.append(gradient.mul_(head.scale))
            hard, soft = torch.stack(terms).sum(dim=0)
            parts[task] = TaskLoss(_weighted(task, hard, soft, weights), hard, soft)
    loss = Loss.of(parts)
    total = _KnownGradients.apply(loss.total, [*of_states, *of_head], *states.values(), *trained)
    return Loss(total, loss.hard, loss.soft)


class _KnownGradients(torch.autograd.Function):
    """A scalar, and its gradients with respect to the inputs, which were made chunk by chunk."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, gradients: list[Tensor], *_: Tensor) -> Tensor:
        ctx.gradients = gradients
        return total.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_total: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(gradient * of_total.to(gradient.dtype) for gradient in ctx.gradients)


def _shared_vocabulary(
    outputs: Mapping[Task, Tensor],
    width: int,
    targets: Mapping[Task, Tensor],
    assistant: Mapping[Task, Distributions] | None,
    weights: StudentLossWeights,
    counts: Mapping[Task, int],
) -> int:
    """The columns that take part in the softmax; refuse what can't be the tasks of one loss.

    Args:
        outputs: Task name to what the model gives for each position [N, ...].
        width: Columns of the model's head.
        targets: Task name to target token ids [N].
        assistant: Task name to distributions at the same positions, or ``None``.
        weights: The vocabulary that both models share, and lambda.
        counts: Task name to the target tokens of the whole window.
    """
    if assistant is None and weights.kd_ratio > 0:
        raise ValueError(f"lambda is {weights.kd_ratio} and there are no soft labels: it must be 0 without them")
    soft_labels = {} if assistant is None else assistant
    names = [sorted(each) for each in (outputs, targets, outputs if assistant is None else assistant, counts)]
    if any(each != names[0] for each in names):
        told = "; ".join(", ".join(each) or "none" for each in names)
        raise ValueError(f"outputs, targets and counts are of different tasks: {told}")
    narrowest = min([width, *(each.vocabulary_size for each in soft_labels.values())])
    columns = weights.vocabulary_size or narrowest
    if columns > narrowest:
        raise ValueError(f"a vocabulary of {columns} ids does not fit heads of which one has {narrowest} columns")
    for task, ids in targets.items():
        rows = (len(outputs[task]), len(ids), len(soft_labels.get(task, ids)))
        if len(set(rows)) > 1:
            raise ValueError(
                f"the {task} task has {rows[0]} student rows, {rows[1]} targets and {rows[2]} assistant rows; they "
                "must be the same positions"
            )
        if counts[task] == 0:
            raise ValueError(f"the {task} task has no target token")
        # cross_entropy would pass over -100, and the mean be taken over it.
        outside = ids[(ids < 0) | (ids >= columns)]
        if len(outside):
            raise ValueError(
                f"target id {int(outside[0])} of the {task} task lies outside the shared vocabulary of {columns} ids"
            )
    return columns
