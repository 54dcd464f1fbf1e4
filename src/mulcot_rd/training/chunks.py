"""Losses of a chunk of positions and their gradients with respect to the logits, in closed form (Eqs. 5, 9 to 11).

Each function overwrites the logits with the gradient of the chunk's share of the total. Every exponential is taken
once: of shifted logits z, e = exp(z / tau) gives the softened distribution, and e ** tau the plain one.
Columns are gone through in blocks of a processor cache's size, since a chunk of a large vocabulary is far larger; what
is made of a block goes into memory taken once.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from mulcot_rd.training.distributions import ExactDistributions, TopDistributions

# Elements of a block: a megabyte of float32.
_BLOCK_ELEMENTS = 2**18


def hard_chunk(logits: Tensor, targets: Tensor, hard_share: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy alone (Eq. 5).

    Args:
        logits: [n, V], float32 or wider; overwritten with the gradient.
        targets: Target token ids [n].
        hard_share: What each position's loss weighs in the total, [n].

    Returns:
        The losses [n], and zeros in place of soft ones.
    """
    largest, at_target = _largest(logits), logits.gather(1, targets[:, None])
    total = _sums(logits, 1)
    for columns in _blocks(logits):
        e = logits[:, columns].sub_(largest).exp_()
        total += e.sum(dim=1, keepdim=True)
    hard = total.log() - (at_target - largest)
    logits.mul_(_as(logits, hard_share[:, None] / total))
    logits.scatter_add_(1, targets[:, None], -hard_share[:, None])
    return hard[:, 0], torch.zeros_like(hard_share)


def exact_chunk(
    logits: Tensor,
    targets: Tensor,
    hard_share: Tensor,
    assistant: Tensor,
    soft_share: Tensor,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy (Eq. 9) and KL(assistant, student) (Eq. 11) from both models' logits.

    Args:
        logits: The student's [n, V], float32 or wider; overwritten with the gradient.
        targets: Target token ids [n].
        hard_share: What each position's cross-entropy weighs in the total, [n].
        assistant: The assistant's logits [n, V]; overwritten.
        soft_share: What each position's divergence weighs in the total, [n].
        temperature: tau of Eq. 10.

    Returns:
        Cross-entropies and divergences, in nats, [n] each.
    """
    largest, taught_largest = _largest(logits), _largest(assistant)
    at_target = logits.gather(1, targets[:, None])
    plain, softened, taught, difference = (_sums(logits, 1) for _ in range(4))
    room = _room(logits)
    for columns in _blocks(logits):
        z, z_taught = logits[:, columns], assistant[:, columns]
        z.sub_(largest).div_(temperature)
        z_taught.sub_(taught_largest).div_(temperature)
        apart = torch.sub(z_taught, z, out=room[:, : z.shape[1]])
        difference += apart.mul_(z_taught.exp_()).sum(dim=1, keepdim=True)
        taught += z_taught.sum(dim=1, keepdim=True)
        softened += z.exp_().sum(dim=1, keepdim=True)
        plain += _plain(z, temperature, room).sum(dim=1, keepdim=True)
    hard = plain.log() - (at_target - largest)
    soft = difference / taught - taught.log() + softened.log()
    of_plain = _as(logits, hard_share[:, None] / plain)
    of_softened = _as(logits, soft_share[:, None] / temperature / softened)
    of_taught = _as(logits, soft_share[:, None] / temperature / taught)
    for columns in _blocks(logits):
        e = logits[:, columns]
        gradient = _plain(e, temperature, room).mul_(of_plain).addcmul_(e, of_softened)
        torch.addcmul(gradient, assistant[:, columns], of_taught, value=-1, out=e)
    logits.scatter_add_(1, targets[:, None], -hard_share[:, None])
    return hard[:, 0], soft[:, 0]


def compact_chunk(
    logits: Tensor,
    targets: Tensor,
    hard_share: Tensor,
    assistant: TopDistributions,
    rows: slice,
    soft_share: Tensor,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy (Eq. 9), and the divergence over the assistant's top ids and one bucket for all others.

    Args:
        logits: The student's [n, V], float32 or wider; overwritten with the gradient.
        targets: Target token ids [n].
        hard_share: What each position's cross-entropy weighs in the total, [n].
        assistant: The assistant's distributions.
        rows: Which n of their positions.
        soft_share: What each position's divergence weighs in the total, [n].

    Returns:
        Cross-entropies and divergences, in nats, [n] each.
    """
    temperature, ids = assistant.temperature, assistant.ids[rows]
    log_p = assistant.log_probabilities[rows].to(logits.dtype)
    p = log_p.exp()
    largest, at_target = _largest(logits), logits.gather(1, targets[:, None])
    z_top = (logits.gather(1, ids) - largest).div_(temperature)
    top = z_top.exp()
    # The rest is added up without the top, never as all less the top: a confident student's is far below rounding.
    logits.scatter_(1, ids, -torch.inf)
    plain, rest = _sums(logits, 1), _sums(logits, 1)
    room = _room(logits)
    for columns in _blocks(logits):
        e = logits[:, columns].sub_(largest).div_(temperature).exp_()
        rest += e.sum(dim=1, keepdim=True)
        plain += _plain(e, temperature, room).sum(dim=1, keepdim=True)
    rest.clamp_min_(torch.finfo(logits.dtype).tiny)
    plain += top.pow(temperature).sum(dim=1, keepdim=True)
    softened = rest + top.sum(dim=1, keepdim=True)
    hard = plain.log() - (at_target - largest)
    log_q = torch.cat([z_top, rest.log().to(z_top.dtype)], dim=1) - softened.log().to(z_top.dtype)
    soft = torch.linalg.vecdot(p, log_p - log_q)
    of_plain = _as(logits, hard_share[:, None] / plain)
    share = soft_share[:, None] / temperature
    of_rest = _as(logits, share * (1 / softened - p[:, -1:] / rest))
    for columns in _blocks(logits):
        e = logits[:, columns]
        torch.addcmul(_plain(e, temperature, room).mul_(of_plain), e, of_rest, out=e)
    of_top = top.pow(temperature) * of_plain + share * (top / _as(logits, softened) - p[:, :-1])
    logits.scatter_(1, ids, of_top)
    logits.scatter_add_(1, targets[:, None], -hard_share[:, None])
    return hard[:, 0], soft


def chunk_of(
    logits: Tensor,
    targets: Tensor,
    hard_share: Tensor,
    assistant: ExactDistributions | TopDistributions,
    rows: slice,
    soft_share: Tensor,
    temperature: float,
    scratch: Tensor,
) -> tuple[Tensor, Tensor]:
    """The chunk function of the kind of ``assistant``; ``scratch`` is as large as ``logits`` and overwritten.

    Raises:
        ValueError: If compact distributions hold for another temperature.
    """
    if isinstance(assistant, ExactDistributions):
        taught = assistant.logits_into(scratch, rows)
        return exact_chunk(logits, targets, hard_share, taught, soft_share, temperature)
    if temperature != assistant.temperature:
        raise ValueError(
            f"these distributions hold for temperature {assistant.temperature}, not for {temperature}: the mass of the "
            "ids left out can't be had at another"
        )
    return compact_chunk(logits, targets, hard_share, assistant, rows, soft_share)


def _largest(logits: Tensor) -> Tensor:
    first, *others = _blocks(logits)
    largest = logits[:, first]
    if others:
        # Block against block: faster than looking for each position's largest along its ids, whatever the layout.
        largest = largest.clone()
    for columns in others:
        block = logits[:, columns]
        torch.maximum(largest[:, : block.shape[1]], block, out=largest[:, : block.shape[1]])
    return largest.amax(dim=1, keepdim=True)


def _room(logits: Tensor) -> Tensor:
    """Room for what is made of one block, laid out as the logits are."""
    return torch.empty_like(logits[:, next(_blocks(logits))])


def _plain(softened: Tensor, temperature: float, room: Tensor) -> Tensor:
    """The plain exponentials of a block, made of the softened ones, in the room for it."""
    return torch.pow(softened, temperature, out=room[:, : softened.shape[1]])


def _sums(logits: Tensor, columns: int) -> Tensor:
    """Sums over a vocabulary are kept in float64 between blocks: the divergence is a small difference of large ones."""
    return torch.zeros((len(logits), columns), dtype=torch.float64, device=logits.device)


def _as(logits: Tensor, values: Tensor) -> Tensor:
    return values.to(logits.dtype)


def _blocks(logits: Tensor) -> Iterator[slice]:
    rows, columns = logits.shape
    width = columns if logits.device.type != "cpu" else max(256, _BLOCK_ELEMENTS // max(rows, 1))
    for start in range(0, columns, width):
        yield slice(start, start + width)
