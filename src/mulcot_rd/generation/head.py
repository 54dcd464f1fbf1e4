"""From last hidden states to tokens: logits, or only the likeliest token, which a large head can give faster."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

# Heads below this stay in a processor's caches, and their product is short in any type.
_LARGE_BYTES = 32 * 2**20
# Columns whose greatest product is looked at before any of them.
_BLOCK = 128
# Rounding to bfloat16 changes a number by at most this share of it.
_UNIT = 2.0**-8


class Head:
    """A model's output head.

    Args:
        base: The model.
        columns: Columns of the head that mean a token; the others are never chosen.
        screened: Whether the likeliest token is looked for in bfloat16 first; by default where that is faster.
    """

    def __init__(self, base: PreTrainedModel, columns: int, *, screened: bool | None = None) -> None:
        self._module, self._columns = base.lm_head, columns
        self._screen: _Screen | None = None
        if _screens(self._module) if screened is None else screened:
            self._screen = _Screen(self._module.weight[:columns])

    def logits(self, states: Tensor) -> Tensor:
        """Logits [N, columns] of last hidden states [N, hidden size]."""
        return self._module(states)[:, : self._columns]

    def likeliest(self, states: Tensor) -> Tensor:
        """The ids [N] of the greatest logits of last hidden states [N, hidden size]."""
        found = None if self._screen is None else self._screen.likeliest(states)
        return self.logits(states).argmax(dim=-1) if found is None else found


class _Screen:
    """Finds the greatest product with a float32 matrix by a copy of it in bfloat16.

    Half the bytes are read, and processors with instructions for the type multiply it faster. What rounding can have
    changed is bounded (Cauchy-Schwarz), so that every row whose true product may be the greatest is among those whose
    products are then computed from the matrix itself.

    Args:
        weight: [columns, hidden size].
    """

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight
        self._columns = len(weight)
        self._rounded = weight.new_zeros((-(-len(weight) // _BLOCK) * _BLOCK, weight.shape[1]), dtype=torch.bfloat16)
        self._rounded[: self._columns] = weight
        self._longest = weight.norm(dim=1).max()

    def likeliest(self, states: Tensor) -> Tensor | None:
        """Column of the greatest product of each state; ``None`` if too many may be it to be worth while."""
        products = functional.linear(states.to(torch.bfloat16), self._rounded)
        products[:, self._columns :] = -torch.inf
        blocks = products.unflatten(1, (-1, _BLOCK))
        greatest = blocks.amax(dim=2).float()
        top = greatest.amax(dim=1)
        # Twice what rounding both factors changes at most, and the rounding of the products themselves.
        slack = 2 * (2.02 * _UNIT * states.norm(dim=1) * self._longest + 2 * _UNIT * top.abs())
        least = top - slack
        row, block = (greatest >= least[:, None]).nonzero(as_tuple=True)
        place, column = (blocks[row, block].float() >= least[row, None]).nonzero(as_tuple=True)
        row, column = row[place], block[place] * _BLOCK + column
        # No candidate at all means states that are no numbers.
        if len(row) < len(states) or len(row) > len(states) * self._columns // 64:
            return None
        exact = (states[row].double() * self._weight[column].double()).sum(dim=1)
        best = exact.new_full((len(states),), -torch.inf).scatter_reduce(0, row, exact, "amax")
        tied = torch.where(exact == best[row], column, self._columns)
        # Of equal ones the first, as argmax has it.
        return column.new_full((len(states),), self._columns).scatter_reduce(0, row, tied, "amin")


def _screens(head: nn.Module) -> bool:
    """Whether a screen is faster: a large float32 head, on a processor that multiplies bfloat16."""
    if type(head) is not nn.Linear or head.bias is not None or head.weight.device.type != "cpu":
        return False
    able = torch.cpu.get_capabilities()
    fast = able.get("avx512_bf16", False) or able.get("amx_bf16", False)
    return fast and head.weight.dtype == torch.float32 and head.weight.numel() * 4 >= _LARGE_BYTES
