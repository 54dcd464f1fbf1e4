"""Losses of a chunk of positions and their gradient with respect to the logits, in closed form (Eqs. 5, 9 to 11).

What :func:`mulcot_rd.training.objective.plain_loss` and autograd give, in three pieces of memory of the size of a
chunk's logits, taken once. Autograd takes about ten of them anew for each chunk, and ``torch.utils.checkpoint``
computes the logits of both heads twice. Each function overwrites the logits with the gradient. Of shifted logits z,
e = exp(z / tau) gives the softened distribution, and e ** tau the plain one.
"""

import torch
from torch import Tensor

from mulcot_rd.training.distributions import ExactDistributions, TopDistributions, linear_into


class ChunkBuffers:
    """Memory for the logits of a chunk, and two more pieces of its size.

    Args:
        rows: Positions of a chunk.
        columns: Token ids.
        dtype: Of the logits, float32 or wider.
        device: Where the head is.
    """

    def __init__(self, rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> None:
        # A processor multiplies few positions by many ids a third faster where a position's logits lie apart.
        by_id = device.type == "cpu"
        self.logits, self.assistant, self.scratch = (
            torch.empty((columns, rows), dtype=dtype, device=device).T
            if by_id
            else torch.empty((rows, columns), dtype=dtype, device=device)
            for _ in range(3)
        )


def chunk_gradient(
    logits: Tensor,
    targets: Tensor,
    assistant: ExactDistributions | TopDistributions | None,
    ce_weight: float,
    kl_weight: float,
    temperature: float,
    buffers: ChunkBuffers,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy and KL(assistant, student) of n positions; ``logits`` become the gradient of their weighted sum.

    Args:
        logits: [n, V], part of ``buffers``.
        targets: Target token ids [n].
        assistant: The assistant's n distributions, or ``None`` without soft labels.
        ce_weight: What a position's cross-entropy weighs in the total.
        kl_weight: What a position's divergence weighs in the total.
        temperature: tau of Eq. 10.
        buffers: Memory that is overwritten.

    Returns:
        The losses in nats, [n] each.
    """
    scratch = buffers.scratch[: len(logits)]
    if assistant is None:
        return _hard(logits, targets, ce_weight)
    if isinstance(assistant, TopDistributions):
        assistant.check_temperature(temperature)
        return _compact(logits, targets, assistant, ce_weight, kl_weight, scratch)
    assistant_logits = linear_into(buffers.assistant, assistant.states, assistant.weight, assistant.bias)
    return _exact(logits, targets, assistant_logits, ce_weight, kl_weight, temperature, scratch)


def _hard(logits: Tensor, targets: Tensor, ce_weight: float) -> tuple[Tensor, Tensor]:
    largest, at_target = logits.amax(dim=1, keepdim=True), logits.gather(1, targets[:, None])
    plain = logits.sub_(largest).exp_()
    total = _sum(plain)
    plain.mul_(ce_weight / total)
    _subtract_at(logits, targets, ce_weight)
    hard = total.log() - (at_target - largest)
    return hard[:, 0], torch.zeros_like(hard[:, 0])


def _exact(
    logits: Tensor,
    targets: Tensor,
    assistant: Tensor,
    ce_weight: float,
    kl_weight: float,
    temperature: float,
    scratch: Tensor,
) -> tuple[Tensor, Tensor]:
    largest, at_target = logits.amax(dim=1, keepdim=True), logits.gather(1, targets[:, None])
    z = logits.sub_(largest).div_(temperature)
    p = assistant.sub_(assistant.amax(dim=1, keepdim=True)).div_(temperature)
    torch.sub(p, z, out=scratch)
    difference = _sum(scratch.mul_(p.exp_()))
    p_sum, q_sum = _sum(p), _sum(z.exp_())
    plain = torch.pow(z, temperature, out=scratch)
    plain_sum = _sum(plain)
    kl = kl_weight / temperature
    gradient = plain.mul_(ce_weight / plain_sum).addcmul_(z, kl / q_sum)
    torch.addcmul(gradient, p, kl / p_sum, value=-1, out=logits)
    _subtract_at(logits, targets, ce_weight)
    hard = plain_sum.log() - (at_target - largest)
    soft = difference / p_sum - p_sum.log() + q_sum.log()
    return hard[:, 0], soft[:, 0]


def _compact(
    logits: Tensor, targets: Tensor, assistant: TopDistributions, ce_weight: float, kl_weight: float, scratch: Tensor
) -> tuple[Tensor, Tensor]:
    temperature, ids = assistant.temperature, assistant.ids
    log_p = assistant.log_probabilities.to(logits.dtype)
    p = log_p.exp()
    largest, at_target = logits.amax(dim=1, keepdim=True), logits.gather(1, targets[:, None])
    z_top = (logits.gather(1, ids) - largest).div_(temperature)
    top = z_top.exp()
    # The rest is added up without the top, never as all less the top: a confident student's is far below rounding.
    others = logits.scatter_(1, ids, -torch.inf).sub_(largest).div_(temperature).exp_()
    rest = _sum(others).clamp_min_(torch.finfo(logits.dtype).tiny)
    plain = torch.pow(others, temperature, out=scratch)
    plain_sum = _sum(plain) + top.pow(temperature).sum(dim=1, keepdim=True)
    q_sum = rest + top.sum(dim=1, keepdim=True)
    log_q = torch.cat([z_top, rest.log()], dim=1) - q_sum.log()
    kl = kl_weight / temperature
    torch.addcmul(plain.mul_(ce_weight / plain_sum), others, kl * (1 / q_sum - p[:, -1:] / rest), out=logits)
    logits.scatter_(1, ids, top.pow(temperature) * ce_weight / plain_sum + kl * (top / q_sum - p[:, :-1]))
    _subtract_at(logits, targets, ce_weight)
    hard = plain_sum.log() - (at_target - largest)
    return hard[:, 0], torch.linalg.vecdot(p, log_p - log_q)


def _sum(values: Tensor) -> Tensor:
    return values.sum(dim=1, keepdim=True)


def _subtract_at(gradient: Tensor, targets: Tensor, ce_weight: float) -> None:
    gradient.scatter_add_(1, targets[:, None], torch.full_like(targets[:, None], -ce_weight, dtype=gradient.dtype))
