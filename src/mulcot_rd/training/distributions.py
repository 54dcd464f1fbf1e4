"""The assistant's distributions at target positions (paper, Eq. 10).

Two kinds, which the fused objective takes alike. Neither ever holds all positions by all token ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F  # noqa: N812 - the name that PyTorch's own documentation uses
from torch import Tensor


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

    def logits_into(self, buffer: Tensor, rows: slice) -> Tensor:
        """The assistant's logits [n, V], written into the first n rows of ``buffer``."""
        return linear_into(buffer, self.states[rows], self.weight, self.bias)

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

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Distributions of the same vocabulary and temperature, one after another."""
        return cls(
            torch.cat([part.ids for part in parts]),
            torch.cat([part.log_probabilities for part in parts]),
            parts[0].vocabulary_size,
            parts[0].temperature,
        )


Distributions = ExactDistributions | TopDistributions


def linear_into(buffer: Tensor, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Logits of some states in the first rows of ``buffer``, which may be wider in precision but not in columns."""
    logits = buffer[: len(states)]
    if weight.dtype != buffer.dtype:
        return logits.copy_(F.linear(states, weight, bias))
    torch.mm(states, weight.T, out=logits)
    return logits if bias is None else logits.add_(bias)


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
