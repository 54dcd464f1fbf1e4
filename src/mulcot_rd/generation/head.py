"""From last hidden states to tokens: logits, or only the likeliest token, which a large head can give faster."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

# Heads below this stay in a processor's caches, and their product is short in any type.
_LARGE_BYTES = 32 * 2**20
# Columns whose greatest product is looked at before any of them.
_BLOCK = 128
# A screen that was no help so often in succession is given up.
_VAIN = 8
# Elements of the head that are rounded at one time.
_ELEMENTS_AT_ONCE = 2**22
# More than the share of a number that a few operations in float32 change it by.
_SINGLE = 1e-5
# Numbers below this are as good as zero.
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
            self._screen = _Screen(self._module.weight[:columns])

    def logits(self, states: Tensor) -> Tensor:
        """Logits [N, columns] of last hidden states [N, hidden size]."""
        return self._module(states)[:, : self._columns]

    def likeliest(self, states: Tensor) -> Tensor:
        """The ids [N] of the greatest logits of last hidden states [N, hidden size]."""
        found = None
        if self._screen is not None:
            found = self._screen.likeliest(states)
            self._vain = 0 if found is not None else self._vain + 1
            if self._vain == _VAIN:
                self._screen = None
        return self.logits(states).argmax(dim=-1) if found is None else found


class _Screen:
    """Finds the greatest product with a float32 matrix by a copy of it in whole numbers of eight bits.

    A quarter of the bytes are read, and processors with instructions for it multiply such numbers faster; their
    products are exact. What rounding both factors has changed is bounded (Cauchy-Schwarz), so that every column whose
    true product may be the greatest is among those whose products are then computed from the matrix itself.

    Args:
        weight: [columns, hidden size].
    """

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight
        self._columns, width = weight.shape
        blocks = -(-self._columns // _BLOCK)
        self._rounded = weight.new_zeros((blocks * _BLOCK, width), dtype=torch.int8)
        # Of each block: what its numbers count, the longest column, and the longest change by rounding.
        self._unit, self._longest, self._changed = (weight.new_zeros(blocks) for _ in range(3))
        at_once = max(1, _ELEMENTS_AT_ONCE // (_BLOCK * width))
        for start in range(0, blocks, at_once):
            own, rows = slice(start, start + at_once), slice(start * _BLOCK, (start + at_once) * _BLOCK)
            values = functional.pad(weight[rows], (0, 0, 0, -len(weight[rows]) % _BLOCK)).unflatten(0, (-1, _BLOCK))
            rounded, unit = _in_eight_bits(values, (1, 2))
            self._rounded[rows] = rounded.flatten(0, 1)
            self._unit[own] = unit[:, 0, 0]
            self._longest[own] = values.norm(dim=2).amax(dim=1)
            self._changed[own] = (values - rounded * unit).norm(dim=2).amax(dim=1)

    def likeliest(self, states: Tensor) -> Tensor | None:
        """Column of the greatest product of each state; ``None`` if too many may be it to be worth while."""
        rounded, unit = _in_eight_bits(states, (1,))
        products = torch._int_mm(rounded.to(torch.int8), self._rounded.T)
        products[:, self._columns :] = torch.iinfo(products.dtype).min
        blocks = products.unflatten(1, (-1, _BLOCK))
        scale = unit * self._unit
        greatest = blocks.amax(dim=2) * scale
        length, changed = (own.norm(dim=1, keepdim=True) for own in (rounded * unit, states - rounded * unit))
        # How far true products may lie from these; the last term is for the rounding of this line and those above.
        slack = (length * self._changed + changed * self._longest) * (1 + _SINGLE) + greatest.abs() * _SINGLE
        least = (greatest - slack).amax(dim=1, keepdim=True)
        row, block = (greatest + slack >= least).nonzero(as_tuple=True)
        may_be = blocks[row, block] * scale[row, block, None] + slack[row, block, None] >= least[row]
        place, column = may_be.nonzero(as_tuple=True)
        row, column = row[place], block[place] * _BLOCK + column
        # No candidate at all means states that are no numbers.
        if len(row) < len(states) or len(row) > len(states) * self._columns // 64:
            return None
        exact = (states[row].double() * self._weight[column].double()).sum(dim=1)
        best = exact.new_full((len(states),), -torch.inf).scatter_reduce(0, row, exact, "amax")
        tied = torch.where(exact == best[row], column, self._columns)
        # Of equal ones the first, as argmax has it.
        return column.new_full((len(states),), self._columns).scatter_reduce(0, row, tied, "amin")


def _in_eight_bits(values: Tensor, dimensions: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Values as whole numbers from -127 to 127, and what these count, one number along the dimensions."""
    unit = values.abs().amax(dim=dimensions, keepdim=True).clamp_min(_LEAST) / 127
    return (values / unit).round(), unit


def _screens(head: nn.Module) -> bool:
    """Whether a screen is faster: a large float32 head, on a processor with products of eight-bit numbers."""
    if type(head) is not nn.Linear or head.bias is not None or head.weight.device.type != "cpu":
        return False
    fast = torch.cpu.get_capabilities().get("avx512_vnni", False)
    return fast and head.weight.dtype == torch.float32 and head.weight.numel() * 4 >= _LARGE_BYTES
