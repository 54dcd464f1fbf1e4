"""The objectives from hidden states, a few positions at a time (paper, Eqs. 5, 6 and 9 to 13).

Values and gradients are those of :func:`mulcot_rd.training.objective.reference_student_loss`. A vocabulary of 150,000
ids makes the logits of one long answer a hundred megabytes, several times over with softmax and gradients; here they
exist for one chunk of positions at a time. The gradient with respect to the logits is known in closed form, so the
forward pass turns it into that of states and head at once, and nothing is computed twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from transformers import PreTrainedModel

from mulcot_rd.errors import UserError
from mulcot_rd.training.chunks import chunk_of, hard_chunk
from mulcot_rd.training.distributions import Distributions, ExactDistributions, linear_into
from mulcot_rd.training.objective import (
    MultiTaskLoss,
    StudentLoss,
    StudentLossWeights,
    TaskWeights,
    check_task,
    check_tasks,
    check_untaught,
    checked_vocabulary,
)

# Logits held at one time, in bytes: large enough for a matrix product to be efficient, small enough not to show.
CHUNK_BYTES = {"cpu": 48 * 2**20, "cuda": 512 * 2**20}
# Values of float32 in a processor's widest vector register (AVX-512).
_REGISTER = 16


@dataclass(frozen=True)
class OutputHead:
    """What turns a model's last hidden states into logits.

    Attributes:
        weight: [V, H].
        bias: [V], if there is one.
        scale: What states are multiplied with before (T5 with tied embeddings), else 1.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0

    def cut(self, vocabulary_size: int) -> "OutputHead":
        """The head of the first ``vocabulary_size`` ids, sharing memory with this one."""
        bias = None if self.bias is None else self.bias[:vocabulary_size]
        return OutputHead(self.weight[:vocabulary_size], bias, self.scale)


def output_head(model: PeftModel | PreTrainedModel) -> OutputHead:
    """The output head in use: where peft trains it whole, the trained copy.

    Raises:
        UserError: If the head carries a low-rank adapter: its logits are then not one matrix product.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    head = base.lm_head
    if isinstance(head, ModulesToSaveWrapper):
        head = head.modules_to_save[head.active_adapter]
    if isinstance(head, BaseTunerLayer):
        raise UserError(
            "the output head has a low-rank adapter, which the objective can't use: take lm_head out of "
            "adapter.target_modules, or name it in adapter.fully_trained_modules"
        )
    scaled = getattr(base.config, "scale_decoder_outputs", False)
    return OutputHead(head.weight, head.bias, base.config.d_model**-0.5 if scaled else 1.0)


def fused_student_loss(
    head: OutputHead,
    states: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    assistant: Mapping[str, Distributions],
    weights: StudentLossWeights,
    window_tokens: Mapping[str, int],
    chunk_rows: int | None = None,
) -> StudentLoss:
    """One micro-batch's share of the student's objective (Eqs. 9 to 13).

    Args:
        head: The student's output head; it gets a gradient if it is trained.
        states: Task name to the student's last hidden states [N, H] at the N target positions.
        targets: Task name to target token ids [N].
        assistant: Task name to the assistant's distributions at the same positions.
        weights: Task weights, lambda, temperature, and the vocabulary that both models share.
        window_tokens: Task name to the number of target tokens in the whole accumulation window.
        chunk_rows: Positions whose logits are held at one time; by default what fits ``CHUNK_BYTES``.

    Returns:
        The total carries gradients; the terms are for records and carry none.

    Raises:
        ValueError: If tasks or shapes disagree, a task is empty, or a target lies outside the shared vocabulary.
    """
    tasks = list(states)
    check_tasks(states, targets, assistant, window_tokens)
    columns = min(
        checked_vocabulary(len(head.weight), assistant[task].vocabulary_size, weights.vocabulary_size) for task in tasks
    )
    for task in tasks:
        check_task(task, len(states[task]), targets[task], len(assistant[task]), window_tokens[task], columns)
    hard_share = {task: (1 - weights.distillation) * weights.hard.of(task) / window_tokens[task] for task in tasks}
    soft_share = {task: weights.distillation * weights.soft.of(task) / window_tokens[task] for task in tasks}
    taught = _Taught({task: assistant[task].cut(columns) for task in tasks}, soft_share, weights.temperature)
    total, hard, soft = _fused(head.cut(columns), states, targets, hard_share, chunk_rows, taught)
    return StudentLoss(
        total,
        {task: hard[task] / window_tokens[task] for task in tasks},
        {task: soft[task] / window_tokens[task] for task in tasks},
    )


def fused_multi_task_loss(
    head: OutputHead,
    states: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    weights: TaskWeights,
    window_tokens: Mapping[str, int],
    vocabulary_size: int,
    chunk_rows: int | None = None,
) -> MultiTaskLoss:
    """One micro-batch's share of the objective without soft labels (Eqs. 5 and 6).

    Args:
        head: The model's output head; it gets a gradient if it is trained.
        states: Task name to last hidden states [N, H] at the N target positions of the micro-batch.
        targets: Task name to target token ids [N].
        weights: lambda_cls and lambda_rea.
        window_tokens: Task name to the number of target tokens in the whole accumulation window.
        vocabulary_size: Token ids that the tokenizer really has; the head's other columns are cut off.
        chunk_rows: As for :func:`fused_student_loss`.

    Returns:
        The total carries gradients; the terms are for records and carry none.

    Raises:
        ValueError: If tasks or shapes disagree, a task is empty, or a target lies outside the vocabulary.
    """
    columns = checked_vocabulary(len(head.weight), len(head.weight), vocabulary_size)
    check_untaught(states, targets, window_tokens, columns)
    share = {task: weights.of(task) / window_tokens[task] for task in states}
    total, hard, _ = _fused(head.cut(columns), states, targets, share, chunk_rows, None)
    return MultiTaskLoss(total, {task: hard[task] / window_tokens[task] for task in states})


@dataclass(frozen=True)
class _Taught:
    """The soft half of the objective: the assistant's distributions, the weight of a position by task, tau."""

    distributions: Mapping[str, Distributions]
    share: Mapping[str, float]
    temperature: float


@dataclass(frozen=True)
class _Positions:
    """All positions of a micro-batch, task after task, and what each of their losses weighs in the total."""

    targets: Tensor
    hard_share: Tensor
    taught: Distributions | None
    soft_share: Tensor | None
    temperature: float
    scale: float
    chunk_rows: int

    def chunk(self, logits: Tensor, rows: slice, scratch: Tensor) -> tuple[Tensor, Tensor]:
        """Hard and soft losses of some positions; ``logits`` are overwritten with the total's gradient."""
        targets, hard_share = self.targets[rows], self.hard_share[rows]
        if self.taught is None or self.soft_share is None:
            return hard_chunk(logits, targets, hard_share)
        soft_share = self.soft_share[rows]
        return chunk_of(logits, targets, hard_share, self.taught, rows, soft_share, self.temperature, scratch)


def _fused(
    head: OutputHead,
    states: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    hard_share: Mapping[str, float],
    chunk_rows: int | None,
    taught: _Taught | None,
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """The weighted total, and by task the sums of the hard and soft losses."""
    tasks = list(states)
    counts = [len(states[task]) for task in tasks]
    joined = torch.cat([states[task] for task in tasks])
    dtype = torch.promote_types(joined.dtype, torch.float32)

    def per_position(share: Mapping[str, float]) -> Tensor:
        values = [torch.full((n,), share[task], dtype=dtype) for task, n in zip(tasks, counts, strict=True)]
        return torch.cat(values).to(joined.device)

    positions = _Positions(
        targets=torch.cat([targets[task] for task in tasks]).to(joined.device),
        hard_share=per_position(hard_share),
        taught=None if taught is None else _joined([taught.distributions[task] for task in tasks]),
        soft_share=None if taught is None else per_position(taught.share),
        temperature=1.0 if taught is None else taught.temperature,
        scale=head.scale,
        chunk_rows=chunk_rows or rows_at_once(len(head.weight), dtype.itemsize, joined.device),
    )
    total, hard, soft = _FusedObjective.apply(joined, head.weight, head.bias, positions, torch.is_grad_enabled())
    by_task = [dict(zip(tasks, (part.sum() for part in terms.split(counts)), strict=True)) for terms in (hard, soft)]
    return total, by_task[0], by_task[1]


def rows_at_once(columns: int, item_bytes: int, device: torch.device) -> int:
    """Positions whose logits over ``columns`` ids fit ``CHUNK_BYTES``; on a processor, whole registers of them."""
    rows = max(1, CHUNK_BYTES.get(device.type, CHUNK_BYTES["cuda"]) // (columns * item_bytes))
    return rows - rows % _REGISTER if device.type == "cpu" and rows > _REGISTER else rows


def _buffer(rows: int, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Room for the logits [rows, V] of a chunk.

    On a processor a token id's logits lie beside each other: the product with the head is faster that way round
    (few positions, many ids), and a block of ids is a piece of memory of its own.
    """
    if weight.device.type == "cpu":
        return torch.empty((len(weight), rows), dtype=dtype).T
    return torch.empty((rows, len(weight)), dtype=dtype, device=weight.device)


def _joined(parts: list[Distributions]) -> Distributions:
    kind = type(parts[0])
    if any(type(part) is not kind for part in parts):
        raise TypeError("all tasks need distributions of one kind")
    return kind.joined(parts)


class _FusedObjective(torch.autograd.Function):
    """Total and terms of the objective; gradients are made in the forward pass, chunk by chunk."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        positions: _Positions,
        differentiate: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        for_states, for_weight, for_bias = (needed and differentiate for needed in ctx.needs_input_grad[:3])
        grad_states = torch.empty_like(states) if for_states else None
        grad_weight = torch.zeros_like(weight) if for_weight else None
        grad_bias = torch.zeros_like(bias) if for_bias else None
        hard = positions.hard_share.new_zeros(len(states))
        soft = torch.zeros_like(hard)
        # Reduced precision is for the models: probabilities over a vocabulary are summed in float32 at least.
        buffer = _buffer(min(positions.chunk_rows, len(states)), weight, hard.dtype)
        scratch = torch.empty_like(buffer) if isinstance(positions.taught, ExactDistributions) else buffer
        for start in range(0, len(states), positions.chunk_rows):
            rows = slice(start, start + positions.chunk_rows)
            inputs = states[rows] if positions.scale == 1.0 else states[rows] * positions.scale
            logits = linear_into(buffer, inputs, weight, bias)
            hard[rows], soft[rows] = positions.chunk(logits, rows, scratch)
            # The logits have become the gradient with respect to them.
            gradient = logits.to(states.dtype)
            if grad_states is not None:
                torch.mm(gradient, weight, out=grad_states[rows])
            if grad_weight is not None:
                grad_weight.addmm_(gradient.T, inputs)
            if grad_bias is not None:
                grad_bias.add_(gradient.sum(dim=0))
        if grad_states is not None and positions.scale != 1.0:
            grad_states.mul_(positions.scale)
        ctx.gradients = (grad_states, grad_weight, grad_bias)
        total = torch.dot(positions.hard_share, hard)
        if positions.soft_share is not None:
            total = total + torch.dot(positions.soft_share, soft)
        ctx.mark_non_differentiable(hard, soft)
        return total, hard, soft

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        scaled = (None if grad is None else grad * grad_total.to(grad.dtype) for grad in ctx.gradients)
        return (*scaled, None, None)
