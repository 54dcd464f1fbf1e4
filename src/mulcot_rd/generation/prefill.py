"""Prefill: each post's prompts are read once, and all answers to the post begin from there."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, EncoderDecoderCache, PreTrainedModel

from mulcot_rd.models.branches import branch_rows
from mulcot_rd.models.forward import read
from mulcot_rd.models.inputs import InputEncoder, Prompt
from mulcot_rd.prompts import Task


@dataclass(frozen=True)
class Branch:
    """The end of one task's prompt as the model has read it.

    Attributes:
        suffix: Keys and values [2 x layers, heads, tokens, units]; even entries keys, odd ones values.
        last_token: The last token id of the prompt.
        position: Rotary position of that token.
    """

    suffix: Tensor
    last_token: int
    position: int


@dataclass(frozen=True)
class ReadPost:
    """A post's prompts as the model has read them, in one pass.

    Attributes:
        prefix: Keys and values of what the tasks share [2 x layers, heads, tokens, units]; no tokens in encoder-decoder
            families, whose decoder never sees it.
        branches: Task to the rest of its prompt.
        crossed: Keys and values that the decoder's attention has of the encoder's states; ``None`` without encoder.
        rotary_dimensions: Dimensions of the family's positions: 3 for time, height and width, 1 for plain ones, 0 for
            families that take none.
    """

    prefix: Tensor
    branches: dict[Task, Branch]
    crossed: Tensor | None
    rotary_dimensions: int


def read_posts(
    base: PreTrainedModel, encoder: InputEncoder, prompts: Sequence[dict[Task, Prompt]], images: Sequence[str]
) -> list[ReadPost]:
    """Read the prompts of posts: what the tasks share and the image once, whatever the number of tasks.

    Args:
        base: The family's model.
        encoder: Knows the family.
        prompts: Each post's prompts, of the same tasks for all posts.
        images: Path of each post's image.
    """
    prefixes = [next(iter(own.values())).opening for own in prompts]
    rows, begins = branch_rows(prefixes, [[p.ending for p in own.values()] for own in prompts], images, encoder)
    cache: Cache = DynamicCache()
    crossed: Tensor | None = None
    if rows.family.encoder_decoder:
        both = EncoderDecoderCache(DynamicCache(), DynamicCache())
        _, positions = read(base, rows, both)
        cache, crossed = both.self_attention_cache, _stacked(both.cross_attention_cache)
    else:
        _, positions = read(base, rows, cache)
    own = _stacked(cache)
    dimensions = 0 if positions is None else 3 if positions.dim() == 3 else 1
    posts = []
    for index, (prefix, prompt, starts) in enumerate(zip(prefixes, prompts, begins, strict=True)):
        branches = {}
        for (task, parts), start in zip(prompt.items(), starts, strict=True):
            end = start + len(parts.ending)
            position = 0 if positions is None else int(positions[..., index, end - 1].max())
            branches[task] = Branch(own[:, index, :, start:end].clone(), parts.ending[-1], position)
        posts.append(
            ReadPost(
                prefix=own[:, index, :, : starts[0]].clone(),
                branches=branches,
                crossed=None if crossed is None else crossed[:, index, :, : len(prefix)].clone(),
                rotary_dimensions=dimensions,
            )
        )
    return posts


def _stacked(cache: Cache) -> Tensor:
    """Keys and values of all layers [2 x layers, rows, heads, tokens, units]."""
    return torch.stack([tensor for layer in cache.layers for tensor in (layer.keys, layer.values)])
