"""How soft labels lie on disk: exact, as hidden states, or compact, as the likeliest ids and the rest of the mass."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - the name that PyTorch's own documentation uses
from torch import Tensor

from mulcot_rd.training.distributions import (
    ExactDistributions,
    StoredDistributions,
    TopDistributions,
    top_distributions,
)

_BLOCK = 2**16

# Gives a stored tensor's part that belongs to one row of the training set.
Read = Callable[[str], Tensor]


class Layout(Protocol):
    """A kind of soft labels: what is stored of a position, and how a distribution is made of it again."""

    def pack(self, exact: ExactDistributions) -> dict[str, Tensor]:
        """What is stored of these distributions, by name; the first dimension counts positions."""

    def unpack(self, reads: Sequence[Read], device: torch.device) -> StoredDistributions:
        """The distributions of rows, one after another, on ``device``."""

    def position_bytes(self, hidden_size: int, item_bytes: int, vocabulary_size: int) -> int:
        """Bytes that one position takes, for an assistant of this width, type and vocabulary."""


class ExactLayout:
    """Last hidden states; with the assistant's output head they give its distributions at any temperature.

    Args:
        weight: The head [V, H], cut to the ids that exist.
        bias: Its bias [V], if it has one.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = weight, bias

    def pack(self, exact: ExactDistributions) -> dict[str, Tensor]:
        """The states as they are."""
        return {"states": exact.states.cpu()}

    def unpack(self, reads: Sequence[Read], device: torch.device) -> ExactDistributions:
        """States of the rows and the head, which moves to the device once: a full-size one is a gigabyte."""
        self._weight = self._weight.to(device)
        self._bias = None if self._bias is None else self._bias.to(device)
        states = torch.cat([read("states") for read in reads])
        return ExactDistributions(states.to(device), self._weight, self._bias)

    def position_bytes(self, hidden_size: int, item_bytes: int, vocabulary_size: int) -> int:
        """A state."""
        return hidden_size * item_bytes


@dataclass(frozen=True)
class CompactLayout:
    """The ``top_k`` likeliest ids, their log-probabilities, and that of all other ids together, at one temperature.

    Ids are stored in ascending order by their lower 16 bits, and, where the vocabulary has more than 2 ** 16 ids, how
    many of a position's ids lie in each block of 2 ** 16: little more than half of what 32 bits an id would take.
    Log-probabilities are float16; rounding them moves a probability by less than a thousandth of its logarithm, and
    reading them normalises each position again.

    Attributes:
        top_k: Ids kept a position.
        temperature: tau of Eq. 10 that the log-probabilities hold for; the mass left out can't be had at another.
        vocabulary_size: Ids of the shared tokenizer.
    """

    top_k: int
    temperature: float
    vocabulary_size: int

    def pack(self, exact: ExactDistributions) -> dict[str, Tensor]:
        """Ids and log-probabilities; logits exist for a few positions at a time."""
        top = top_distributions(exact, self.top_k, self.temperature)
        packed = {
            "low": (top.ids % _BLOCK).to(torch.uint16).cpu(),
            "log_probabilities": top.log_probabilities.to(torch.float16).cpu(),
        }
        if self._blocks > 1:
            block = top.ids // _BLOCK
            counts = torch.stack([(block == number).sum(dim=1) for number in range(self._blocks)], dim=1)
            packed["in_block"] = counts.to(torch.uint16).cpu()
        return packed

    def unpack(self, reads: Sequence[Read], device: torch.device) -> TopDistributions:
        """Ids and log-probabilities, each position adding up to 1 again."""
        ids = torch.cat([read("low") for read in reads]).long()
        if self._blocks > 1:
            counts = torch.cat([read("in_block") for read in reads]).long()
            block = torch.arange(self._blocks).repeat(len(ids)).repeat_interleave(counts.flatten())
            ids = ids + _BLOCK * block.view_as(ids)
        stored = torch.cat([read("log_probabilities") for read in reads]).float()
        return TopDistributions(
            ids.to(device), F.log_softmax(stored, dim=-1).to(device), self.vocabulary_size, self.temperature
        )

    def position_bytes(self, hidden_size: int, item_bytes: int, vocabulary_size: int) -> int:
        """Two bytes an id, two a log-probability, and two a block of ids."""
        kept = min(self.top_k, vocabulary_size - 1)
        return 2 * kept + 2 * (kept + 1) + (2 * self._blocks if self._blocks > 1 else 0)

    @property
    def _blocks(self) -> int:
        return -(-self.vocabulary_size // _BLOCK)
