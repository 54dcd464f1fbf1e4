"""Attention for a step in which rows have different numbers of new tokens.

All tokens of a step go through the family's layers as one sequence, without padding; only the attention itself sees
rows. It is plugged into transformers' attention interface, so every other value is the family's own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from mulcot_rd.models.forward import additive_mask

NAME = "mulcot_packed"


@dataclass(frozen=True)
class Packing:
    """Where the N tokens of a step stand among its rows.

    Attributes:
        rows: Rows of the step.
        width: New tokens of a row at most.
        places: Row x width + number within the row, of each token [N]; ``None`` where every row has ``width`` tokens.
    """

    rows: int
    width: int
    places: Tensor | None

    def unpack(self, tokens: Tensor) -> Tensor:
        """[N, ...] as [rows, width, ...]; what no token fills is zero."""
        if self.places is not None:
            tokens = tokens.new_zeros((self.rows * self.width, *tokens.shape[1:])).index_copy_(0, self.places, tokens)
        return tokens.view(self.rows, self.width, *tokens.shape[1:])

    def pack(self, rows: Tensor) -> Tensor:
        """The reverse of :meth:`unpack`."""
        tokens = rows.flatten(0, 1)
        return tokens if self.places is None else tokens.index_select(0, self.places)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    *,
    packing: Packing,
    scaling: float | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention of a step's tokens to the keys of their own rows.

    Args:
        module: The family's attention module.
        query: [1, heads, N, units].
        key: [rows, key heads, window, units].
        value: The same shape.
        attention_mask: What is added to the scores [rows, 1 or heads, 1 or width, window]; relative position biases
            are part of it, whatever the family computed for one sequence.
        packing: Where the tokens stand.
        scaling: Of the scores.

    Returns:
        [1, N, heads, units], and no weights.
    """
    rows, width = packing.rows, packing.width
    heads, units = query.shape[1], query.shape[3]
    shared = heads // key.shape[1]
    queries = packing.unpack(query[0].transpose(0, 1)).view(rows, width, key.shape[1], shared, units)
    mask = attention_mask
    if shared > 1:
        # Queries that share a key head stand behind one another, so that no key is ever copied.
        mask = mask.expand(-1, -1, width, -1).repeat(1, 1, shared, 1)
    attended = nn.functional.scaled_dot_product_attention(
        queries.permute(0, 2, 3, 1, 4).flatten(2, 3), key, value, attn_mask=mask, scale=scaling
    )
    by_head = attended.view(rows, key.shape[1], shared, width, units).permute(0, 3, 1, 2, 4).flatten(2, 3)
    return packing.pack(by_head)[None], None


AttentionInterface.register(NAME, packed_attention)


def causal_mask(lengths: Tensor, width: int, window: int, dtype: torch.dtype) -> Tensor:
    """A new token sees its row up to itself: what is added to the scores [rows, 1, width, window].

    Args:
        lengths: Tokens that each row has before the step [rows].
        width: New tokens of a row at most.
        window: Columns.
        dtype: Of the scores.
    """
    return additive_mask(distances(lengths, width, window) <= 0, dtype)[:, None]


def distances(lengths: Tensor, width: int, window: int) -> Tensor:
    """Column minus the column of a row's each new token [rows, width, window]."""
    new = lengths[:, None] + torch.arange(width, device=lengths.device)
    return torch.arange(window, device=lengths.device) - new[:, :, None]
