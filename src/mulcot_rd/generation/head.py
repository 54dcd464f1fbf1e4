"""From last hidden states to tokens: logits, or only the likeliest token, which a large head can give faster."""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

# Heads below this stay in a processor's caches, and their product is short in any type.
_LARGE_BYTES = 32 * 2**20
# Columns whose greatest product is looked at before any of them.
_BLOCK = 128
# A screen that was in vain so many times more often than it was a help is given up.
_VAIN = 8
# Columns a state, and one in so many of all, whose products are worth computing one by one.
_FEW, _ONE_IN = 16, 512
# Elements of the head that are rounded at one time.
_ELEMENTS_AT_ONCE = 2**22
# What is added to the bound for its own rounding in float32, as a share of the factors' lengths.
_SINGLE = 1e-5
# Keeps numbers that are all zero from being divided by zero.
_LEAST = 1e-30


class Head:
    """A model's output head.

    Args:
        base: The model.
        columns: Columns of the head that mean a token; the others are never chosen.
        screened: Whether the likeliest token is looked for in eight bits first; by default where that is faster.
    """

    def __init__(self, base: PreTrainedModel, columns: int, *, screened: bool | None = None) -> None:
        self._module, self._columns = base.lm_head, columns
        self._screen: _Screen | None = None
        self._vain = 0
        if _screens(self._module) if screened is None else screened:
            self._screen = _Screen(self._module.weight[:columns].detach())

    def logits(self, states: Tensor) -> Tensor:
        """Logits [N, columns] of last hidden states [N, hidden size]."""
        return self._module(states)[:, : self._columns]

    def likeliest(self, states: Tensor) -> Tensor:
        """The ids [N] of the greatest logits of last hidden states [N, hidden size]."""
        found = None
        if self._screen is not None:
            found = self._screen.likeliest(states)
            self._vain = self._vain + 1 if found is None else max(0, self._vain - 1)
            if self._vain == _VAIN:
                self._screen = None
        return self.logits(states).argmax(dim=-1) if found is None else found


class _Screen:
    """Finds the greatest product with a float32 matrix by a copy of it in whole numbers of eight bits.

    A quarter of the bytes are read, and processors with instructions for it multiply such numbers faster; their
    products are exact (of less than 130,000 numbers). What rounding both factors has changed is bounded
    (Cauchy-Schwarz), so that every column whose true product may be the greatest is among those whose products are
    then computed from the matrix itself.

    Args:
        weight: [columns, hidden size]: a row of it for each column of the head.
    """

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight
        self._columns, width = weight.shape
        blocks = -(-self._columns // _BLOCK)
        self._rounded = weight.new_zeros((blocks * _BLOCK, width), dtype=torch.int8)
        # Of each block: the step between its numbers, its longest column, and the longest change by rounding.
        self._unit, self._longest, self._changed = (weight.new_zeros(blocks) for _ in range(3))
        at_once = max(1, _ELEMENTS_AT_ONCE // (_BLOCK * width))
        for start in range(0, blocks, at_once):
            own, rows = slice(start, start + at_once), slice(start * _BLOCK, (start + at_once) * _BLOCK)
            values = functional.pad(weight[rows], (0, 0, 0, -len(weight[rows]) % _BLOCK)).unflatten(0, (-1, _BLOCK))
            rounded, unit = _in_eight_bits(values, (1, 2))
            self._rounded[rows] = rounded.flatten(0, 1)
            self._unit[own] = unit[:, 0, 0]
            self._longest[own] = _lengths(values, unit).amax(dim=1)
            self._changed[own] = _lengths(values - rounded * unit, unit).amax(dim=1)

    def products(self, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is known of the products of some states with all columns.

        Returns:
            Whole numbers [N, blocks, columns of a block]; what one of them stands for [N, blocks]; how far from that
            the true product lies at most [N, blocks]. Columns beyond the last have the least number there is.
        """
        rounded, unit = _in_eight_bits(states, (1,))
        numbers = torch._int_mm(rounded.to(torch.int8), self._rounded.T)
        numbers[:, self._columns :] = torch.iinfo(numbers.dtype).min
        known = rounded * unit
        length, changed = _lengths(known, unit)[:, None], _lengths(states - known, unit)[:, None]
        error = length * self._changed + changed * self._longest
        return numbers.unflatten(1, (-1, _BLOCK)), unit * self._unit, error + _SINGLE * (error + length * self._longest)

    def likeliest(self, states: Tensor) -> Tensor | None:
        """Column of the greatest product of each state; ``None`` if too many may be it to be worth while."""
        numbers, scale, error = self.products(states)
        greatest = numbers.amax(dim=2) * scale
        least = (greatest - error).amax(dim=1, keepdim=True)
        row, block = (greatest + error >= least).nonzero(as_tuple=True)
        may_be = numbers[row, block] * scale[row, block, None] + error[row, block, None] >= least[row]
        place, number = may_be.nonzero(as_tuple=True)
        row, column = row[place], block[place] * _BLOCK + number
        real = column < self._columns
        row, column = row[real], column[real]
        # A state without any candidate is one whose numbers are none.
        found = torch.bincount(row, minlength=len(states))
        if not found.all() or len(row) > len(states) * max(_FEW, self._columns // _ONE_IN):
            return None
        exact = (states[row].double() * self._weight[column].double()).sum(dim=1)
        best = exact.new_full((len(states),), -torch.inf).scatter_reduce(0, row, exact, "amax")
        tied = torch.where(exact == best[row], column, self._columns)
        # Of equal ones the first, as argmax has it.
        return column.new_full((len(states),), self._columns).scatter_reduce(0, row, tied, "amin")


def _lengths(vectors: Tensor, unit: Tensor) -> Tensor:
    """Euclidean lengths along the last dimension, at least the true ones to a part in 100,000 of a unit.

    They are measured in units, whose squares single precision can hold; what summing so many of them may lose is added.
    Numbers whose squares vanish beside a unit are far below what :data:`_SINGLE` allows for.
    """
    lost = vectors.shape[-1] * torch.finfo(vectors.dtype).eps
    return torch.linalg.vector_norm(vectors / unit, dim=-1) * unit.squeeze(-1) * (1 + lost)


def _in_eight_bits(values: Tensor, dimensions: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Values as whole numbers from -127 to 127, and what these count, one number along the dimensions."""
    unit = values.abs().amax(dim=dimensions, keepdim=True).clamp_min(_LEAST) / 127
    return (values / unit).round(), unit


def _screens(head: nn.Module) -> bool:
    """Whether a screen is faster: a large float32 head, on a processor with products of eight-bit numbers."""
    if type(head) is not nn.Linear or head.bias is not None or head.weight.device.type != "cpu":
        return False
    large = head.weight.dtype == torch.float32 and head.weight.numel() * 4 >= _LARGE_BYTES
    return large and multiplies_eight_bits()


@cache
def multiplies_eight_bits() -> bool:
    """Whether this processor has fast and exact products of eight-bit numbers.

    Older instructions saturate where two products are added. Since PyTorch's function for them is a private one, its
    answer is tried, and not only the processor's name for the instructions looked at.
    """
    if not (torch.cpu.get_capabilities().get("avx512_vnni", False) and torch.backends.mkldnn.enabled):
        return False
    numbers = torch.full((32, 256), 127, dtype=torch.int8)
    numbers[::2] = -127
    return torch.equal(torch._int_mm(numbers, numbers.T).long(), numbers.long() @ numbers.T.long())
