"""The assistant's distributions at target positions (paper, Eq. 10), and their divergence from the student's (Eq. 11).

Two kinds, which the fused objective takes alike. Neither ever holds all positions by all token ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
import torch.nn.functional as F  # noqa: N812 - the name that PyTorch's own documentation uses
from torch import Tensor


class Distributions(Protocol):
    """The assistant's distributions over a vocabulary of V token ids at N positions."""

    @property
    def vocabulary_size(self) -> int:
        """Token ids that the distributions range over."""

    def __len__(self) -> int:
        """Positions."""

    def cut(self, vocabulary_size: int) -> Self:
        """The distributions over the first ``vocabulary_size`` ids alone.

        Raises:
            ValueError: If what is kept of them can't give these.
        """

    def divergence_(self, log_q: Tensor, rows: slice, temperature: float) -> Tensor:
        """Kullback-Leibler divergence of some positions from the student's distributions, and its gradient.

        Args:
            log_q: The student's log-probabilities [n, V] at temperature tau; overwritten with the gradient of the
                divergences with respect to the student's logits divided by tau.
            rows: Which n of the N positions.
            temperature: tau of Eq. 10.

        Returns:
            The divergences, in nats, [n].
        """


@dataclass(frozen=True)
class ExactDistributions:
    """Distributions as last hidden states and output head: nothing is lost.

    Attributes:
        states: The assistant's last hidden states [N, H].
        weight: Its output head [V, H], cut to the ids that exist.
        bias: The head's bias [V], if it has one.
    """

    states: Tensor
    weight: Tensor
    bias: Tensor | None = None

    @property
    def vocabulary_size(self) -> int:
        """Token ids that the distributions range over."""
        return len(self.weight)

    def __len__(self) -> int:
        return len(self.states)

    def logits(self, rows: slice = slice(None)) -> Tensor:
        """The assistant's logits [n, V]."""
        return F.linear(self.states[rows], self.weight, self.bias)

    def cut(self, vocabulary_size: int) -> Self:
        """The distributions over the first ``vocabulary_size`` ids: the head is cut before the softmax."""
        bias = None if self.bias is None else self.bias[:vocabulary_size]
        return replace(self, weight=self.weight[:vocabulary_size], bias=bias)

    def divergence_(self, log_q: Tensor, rows: slice, temperature: float) -> Tensor:
        """KL(assistant, student), Eq. 11; see :class:`Distributions`."""
        log_p = F.log_softmax(self.logits(rows).to(log_q.dtype).div_(temperature), dim=-1)
        p = log_p.exp()
        divergence = torch.linalg.vecdot(p, log_p.sub_(log_q))
        log_q.exp_().sub_(p)
        return divergence

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Distributions of the same head, one after another."""
        return cls(torch.cat([part.states for part in parts]), parts[0].weight, parts[0].bias)


@dataclass(frozen=True)
class TopDistributions:
    """Distributions as their k likeliest token ids and one bucket for the mass of all others.

    The divergence is that of two distributions over k + 1 outcomes: the k ids, and "any other id", to which the
    student gives the sum of its probabilities of all other ids. It is never above the exact divergence (merging
    outcomes can only lose information), and equal to it where both share out the rest alike.

    Attributes:
        ids: The likeliest ids [N, k].
        log_probabilities: Their log-probabilities and, last, that of the bucket, [N, k + 1]; each row adds up to 1.
        vocabulary_size: Token ids that the distributions range over.
        temperature: tau for which the log-probabilities hold.
    """

    ids: Tensor
    log_probabilities: Tensor
    vocabulary_size: int
    temperature: float

    def __len__(self) -> int:
        return len(self.ids)

    def cut(self, vocabulary_size: int) -> Self:
        """The same distributions.

        Raises:
            ValueError: If another vocabulary is asked for: the mass of single ids in the bucket is not known.
        """
        if vocabulary_size != self.vocabulary_size:
            raise ValueError(
                f"compact soft labels over {self.vocabulary_size} ids can't be cut to {vocabulary_size}: "
                "write them again for the shared vocabulary"
            )
        return self

    def divergence_(self, log_q: Tensor, rows: slice, temperature: float) -> Tensor:
        """KL over k + 1 outcomes; see :class:`Distributions`.

        Raises:
            ValueError: If ``temperature`` is not the one that the log-probabilities hold for.
        """
        if temperature != self.temperature:
            raise ValueError(
                f"these distributions hold for temperature {self.temperature}, not for {temperature}: the mass of the "
                "ids left out can't be had at another"
            )
        ids = self.ids[rows]
        log_p = self.log_probabilities[rows].to(log_q.dtype)
        p = log_p.exp()
        q = log_q.exp_()
        top = q.gather(1, ids)
        # The rest is added up without the top, never as 1 less the top: a confident student's is far below rounding.
        rest = q.scatter_(1, ids, 0).sum(dim=1, keepdim=True).clamp_min_(torch.finfo(q.dtype).tiny)
        log_outcomes = torch.cat([top, rest], dim=1).clamp_min_(torch.finfo(q.dtype).tiny).log_()
        divergence = torch.linalg.vecdot(p, log_p - log_outcomes)
        q.mul_(1 - p[:, -1:] / rest).scatter_(1, ids, top - p[:, :-1])
        return divergence

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Distributions of the same vocabulary and temperature, one after another."""
        return cls(
            torch.cat([part.ids for part in parts]),
            torch.cat([part.log_probabilities for part in parts]),
            parts[0].vocabulary_size,
            parts[0].temperature,
        )


def top_distributions(exact: ExactDistributions, top_k: int, temperature: float, rows_at_once: int) -> TopDistributions:
    """Reduce exact distributions to their ``top_k`` likeliest ids, ids ascending, a few positions at a time.

    Args:
        exact: The distributions.
        top_k: Ids kept a position; at least one id is left to the bucket.
        temperature: tau of Eq. 10.
        rows_at_once: Positions whose logits are held at one time.
    """
    kept = min(top_k, exact.vocabulary_size - 1)
    ids, values = [], []
    for start in range(0, len(exact), rows_at_once):
        logits = exact.logits(slice(start, start + rows_at_once))
        scaled = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
        log_p = F.log_softmax(scaled, dim=-1)
        chosen = log_p.topk(kept, dim=-1, sorted=False).indices.sort(dim=-1).values
        top = log_p.gather(1, chosen)
        rest = log_p.scatter_(1, chosen, -torch.inf).logsumexp(dim=-1, keepdim=True)
        ids.append(chosen)
        values.append(torch.cat([top, rest], dim=1))
    return TopDistributions(torch.cat(ids), torch.cat(values), exact.vocabulary_size, temperature)
