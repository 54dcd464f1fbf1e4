"""The assistant's distributions at target positions (paper, Eq. 10).

``divergence`` is Eq. 11 in plain form. Training reads the fields of the stored kinds in
:func:`mulcot_rd.training.gradients.chunk_gradient`; these never hold all positions by all token ids.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F  # noqa: N812 - the name that PyTorch's own documentation uses
from torch import Tensor

# Bytes of a chunk's float32 logits; the objective has three such pieces of memory.
CHUNK_BYTES = {"cpu": 32 * 2**20, "gpu": 256 * 2**20}


def rows_at_once(vocabulary_size: int, device: torch.device) -> int:
    """Positions whose logits are held at one time, at least one; a multiple of 16, for which products are fastest."""
    rows = CHUNK_BYTES["cpu" if device.type == "cpu" else "gpu"] // (vocabulary_size * torch.float32.itemsize)
    return rows - rows % 16 if rows > 16 else max(1, rows)


@dataclass(frozen=True)
class LogitDistributions:
    """Distributions as logits, for the objective in plain form.

    Attributes:
        logits: [N, V].
    """

    logits: Tensor

    @property
    def vocabulary_size(self) -> int:
        """Token ids that the distributions range over."""
        return self.logits.shape[1]

    def __len__(self) -> int:
        return len(self.logits)

    def cut(self, vocabulary_size: int) -> Self:
        """The distributions over the first ``vocabulary_size`` ids: logits are cut before the softmax."""
        return replace(self, logits=self.logits[:, :vocabulary_size])

    def divergence(self, student_logits: Tensor, temperature: float) -> Tensor:
        """KL(assistant, student) at each position [N], both softened by tau (Eqs. 10 and 11).

        Args:
            student_logits: [N, V], float32 or wider.
            temperature: tau.
        """
        assistant_log_probs = F.log_softmax(self.logits.to(student_logits.dtype) / temperature, dim=-1)
        return _divergence(assistant_log_probs, F.log_softmax(student_logits / temperature, dim=-1))


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

    def logits(self) -> Tensor:
        """The assistant's logits [N, V]."""
        return F.linear(self.states, self.weight, self.bias)

    def cut(self, vocabulary_size: int) -> Self:
        """The distributions over the first ``vocabulary_size`` ids: the head is cut before the softmax."""
        bias = None if self.bias is None else self.bias[:vocabulary_size]
        return replace(self, weight=self.weight[:vocabulary_size], bias=bias)

    def __getitem__(self, rows: slice) -> Self:
        return replace(self, states=self.states[rows])

    def divergence(self, student_logits: Tensor, temperature: float) -> Tensor:
        """As :meth:`LogitDistributions.divergence`."""
        return LogitDistributions(self.logits()).divergence(student_logits, temperature)


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

    def __getitem__(self, rows: slice) -> Self:
        return replace(self, ids=self.ids[rows], log_probabilities=self.log_probabilities[rows])

    def divergence(self, student_logits: Tensor, temperature: float) -> Tensor:
        """KL(assistant, student) over k + 1 outcomes at each position [N] (Eqs. 10 and 11).

        Args:
            student_logits: [N, V], float32 or wider.
            temperature: tau.

        Raises:
            ValueError: If these distributions hold for another temperature.
        """
        self.check_temperature(temperature)
        log_probs = F.log_softmax(student_logits / temperature, dim=-1)
        return _divergence(self.log_probabilities.to(log_probs.dtype), _top_and_rest(log_probs, self.ids))

    def check_temperature(self, temperature: float) -> None:
        """Refuse a temperature that these distributions don't hold for.

        Raises:
            ValueError: If it is another one.
        """
        if temperature != self.temperature:
            raise ValueError(
                f"these distributions hold for temperature {self.temperature}, not for {temperature}: the mass of the "
                "ids left out can't be had at another"
            )


StoredDistributions = ExactDistributions | TopDistributions
Distributions = LogitDistributions | StoredDistributions


def linear_into(buffer: Tensor, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Logits of some states in the first rows of ``buffer``, which may be wider in precision but not in columns."""
    logits = buffer[: len(states)]
    if weight.dtype != buffer.dtype:
        return logits.copy_(F.linear(states, weight, bias))
    torch.mm(states, weight.T, out=logits)
    return logits if bias is None else logits.add_(bias)


def top_distributions(
    exact: ExactDistributions, top_k: int, temperature: float, chunk_rows: int | None = None
) -> TopDistributions:
    """Reduce exact distributions to their ``top_k`` likeliest ids, ids ascending, a few positions at a time.

    Args:
        exact: The distributions.
        top_k: Ids kept a position; at least one id is left to the bucket.
        temperature: tau of Eq. 10.
        chunk_rows: Positions whose logits are held at one time; by default :func:`rows_at_once`.
    """
    kept = min(top_k, exact.vocabulary_size - 1)
    rows = chunk_rows or rows_at_once(exact.vocabulary_size, exact.states.device)
    ids, values = [], []
    for start in range(0, len(exact), rows):
        logits = exact[start : start + rows].logits()
        scaled = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
        log_probs = F.log_softmax(scaled, dim=-1)
        ids.append(log_probs.topk(kept, dim=-1, sorted=False).indices.sort(dim=-1).values)
        values.append(_top_and_rest(log_probs, ids[-1]))
    return TopDistributions(torch.cat(ids), torch.cat(values), exact.vocabulary_size, temperature)


def _top_and_rest(log_probs: Tensor, ids: Tensor) -> Tensor:
    """Log-probabilities of ``ids`` [N, k] and, last, that of all others of [N, V] together: [N, k + 1].

    The rest is added up without the top, never as all less the top: a confident student's is far below rounding.
    """
    rest = log_probs.scatter(1, ids, -torch.inf).logsumexp(dim=-1, keepdim=True)
    return torch.cat([log_probs.gather(1, ids), rest], dim=1)


def _divergence(assistant_log_probs: Tensor, student_log_probs: Tensor) -> Tensor:
    """KL(assistant, student) of each row."""
    # kl_div takes the student's log-probabilities first.
    return F.kl_div(student_log_probs, assistant_log_probs, reduction="none", log_target=True).sum(dim=-1)
