"""The Qwen vision towers with fewer and larger operations: the same values, but for rounding."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel

# transformers hands whole sequences with their chunks' ends to functions that have "flash" in their names; to others it
# gives one chunk at a time.
NAME = "mulcot_flash_chunks"


class PatchProduct(nn.Conv3d):
    """A tower's first layer as a product, still a convolution by its weights and for what an adapter makes of it.

    Each patch fills the kernel exactly, so there is nothing to slide; libraries' convolutions in three dimensions are
    slow. (The fusion that transformers has for it gives the weights another shape, which saved adapters would not fit.)

    Args:
        arguments: As of the convolution, whose stride must be its kernel's size.
        more: The same by name.

    Raises:
        ValueError: If patches overlap or have gaps.
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        side_by_side = self.stride == self.kernel_size and not any(self.padding)
        if not side_by_side or self.groups != 1 or any(step != 1 for step in self.dilation):
            raise ValueError(f"{self} is no layer of patches that lie side by side")

    @classmethod
    def of(cls, convolution: nn.Conv3d) -> "PatchProduct":
        """The same layer, with the very weights."""
        made = cls(
            convolution.in_channels,
            convolution.out_channels,
            convolution.kernel_size,
            convolution.stride,
            convolution.padding,
            convolution.dilation,
            convolution.groups,
            bias=convolution.bias is not None,
            device="meta",
        )
        made.weight, made.bias = convolution.weight, convolution.bias
        return made

    def forward(self, patches: Tensor) -> Tensor:
        """Features [N, hidden size, 1, 1, 1] of patches [N, channels, frames, height, width]."""
        return functional.linear(patches.flatten(1), self.weight.flatten(1), self.bias)[:, :, None, None, None]


def chunked_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    cu_seq_lens_q: Tensor,
    scaling: float,
    dropout: float = 0.0,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention within chunks of a sequence, images or windows of them: chunks of one length go together.

    Args:
        module: The tower's attention module.
        query: [1, heads, N, units].
        key: The same shape.
        value: The same shape.
        attention_mask: None: a chunk is seen whole.
        cu_seq_lens_q: Where chunks begin, and the last one's end [chunks + 1].
        scaling: Of the scores.
        dropout: Of the weights.

    Returns:
        [1, N, heads, units], and no weights.

    Raises:
        ValueError: If the chunks do not make up the sequence.
    """
    lengths = tuple(cu_seq_lens_q.diff().tolist())
    if sum(lengths) != query.shape[2]:
        raise ValueError(f"chunks of {sum(lengths)} tokens do not make up a sequence of {query.shape[2]}")
    # [N, heads, units] each, as they lie in memory.
    tokens = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]
    order = _by_length(lengths, query.device)
    if order is None:
        return _attended(tokens, len(lengths), lengths[0], scaling, dropout)[None], None
    places, back, groups = order
    parts = zip(
        *(tensor.index_select(0, places).split([n * length for n, length in groups]) for tensor in tokens), strict=True
    )
    found = [_attended(part, *group, scaling, dropout) for part, group in zip(parts, groups, strict=True)]
    return torch.cat(found).index_select(0, back)[None], None


def _attended(tokens: Sequence[Tensor], count: int, length: int, scaling: float, dropout: float) -> Tensor:
    """[N, heads, units]: attention of queries to keys and values (each of that shape) within ``count`` chunks."""
    chunks = [tensor.unflatten(0, (count, length)).transpose(1, 2) for tensor in tokens]
    return (
        functional.scaled_dot_product_attention(*chunks, dropout_p=dropout, scale=scaling).transpose(1, 2).flatten(0, 1)
    )


AttentionInterface.register(NAME, chunked_attention)


@lru_cache(maxsize=8)
def _by_length(lengths: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor, list[tuple[int, int]]] | None:
    """How a sequence's tokens are put into an order in which chunks of one length stand together.

    Returns:
        The tokens in that order [N], where each token is then found [N], and number and length of the chunks of each
        length; ``None`` where all chunks have the same length.
    """
    if len(set(lengths)) == 1:
        return None
    ends = np.cumsum(lengths)
    own = sorted(set(lengths) - {0})
    places = np.concatenate(
        [
            np.arange(end - size, end)
            for length in own
            for end, size in zip(ends, lengths, strict=True)
            if size == length
        ]
    )
    order, back = (torch.from_numpy(numbers).to(device) for numbers in (places, np.argsort(places)))
    return order, back, [(lengths.count(length), length) for length in own]


def quicken(tower: PreTrainedModel) -> None:
    """Put these operations into a tower, in place of the library's, once.

    The name of the attention then stands in the tower's configuration while it is in memory. It is not saved; whoever
    builds another model from that configuration has to name one of the library's.
    """
    if not isinstance(tower.patch_embed.proj, PatchProduct):
        tower.patch_embed.proj = PatchProduct.of(tower.patch_embed.proj)
    if tower.config._attn_implementation == "sdpa":
        tower.config._attn_implementation = NAME
