"""The Qwen vision towers with fewer and larger operations: the same values, but for rounding."""

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel

# transformers hands whole sequences with their chunks' ends to functions that have "flash" in their names; to others it
# gives one chunk at a time.
NAME = "mulcot_flash_chunks"


class PatchProduct(nn.Module):
    """A tower's first layer as a product.

    Each patch fills the kernel of the convolution exactly, so there is nothing to slide; libraries' convolutions in
    three dimensions are slow. Names and shapes of the weights stay those of the convolution.

    Args:
        convolution: The layer, whose stride is its kernel's size.
    """

    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        if convolution.stride != convolution.kernel_size or any(convolution.padding) or convolution.groups != 1:
            raise ValueError(f"{convolution} is no layer of patches that lie side by side")
        self.weight, self.bias = convolution.weight, convolution.bias

    def forward(self, patches: Tensor) -> Tensor:
        """Features [N, hidden size] of patches [N, channels, frames, height, width]."""
        return functional.linear(patches.flatten(1), self.weight.flatten(1), self.bias)


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
    """
    lengths = tuple(cu_seq_lens_q.diff().tolist())
    # [heads, N, units] each.
    tokens = [tensor[0] for tensor in (query, key, value)]
    if len(set(lengths)) == 1:
        chunks = [tensor.unflatten(1, (len(lengths), -1)).transpose(0, 1) for tensor in tokens]
        attended = functional.scaled_dot_product_attention(*chunks, dropout_p=dropout, scale=scaling)
        return attended.transpose(1, 2).flatten(0, 1)[None], None
    found = query.new_empty((query.shape[2], query.shape[1], query.shape[3]))
    for places in _by_length(lengths, query.device):
        chunks = [tensor[:, places].transpose(0, 1) for tensor in tokens]
        attended = functional.scaled_dot_product_attention(*chunks, dropout_p=dropout, scale=scaling)
        found = found.index_copy(0, places.flatten(), attended.transpose(1, 2).flatten(0, 1))
    return found[None], None


AttentionInterface.register(NAME, chunked_attention)


@lru_cache(maxsize=8)
def _by_length(lengths: tuple[int, ...], device: torch.device) -> list[Tensor]:
    """Of each length that there is, the tokens of all its chunks [chunks, length]."""
    ends = torch.tensor(lengths).cumsum(0)
    return [
        torch.stack(
            [torch.arange(end - length, end) for end, own in zip(ends, lengths, strict=True) if own == length]
        ).to(device)
        for length in sorted(set(lengths) - {0})
    ]


def quicken(tower: PreTrainedModel) -> None:
    """Put these operations into a tower, in place of the library's."""
    if isinstance(tower.patch_embed.proj, nn.Conv3d):
        tower.patch_embed.proj = PatchProduct(tower.patch_embed.proj)
    if tower.config._attn_implementation == "sdpa":
        tower.config._attn_implementation = NAME
