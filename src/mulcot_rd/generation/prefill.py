"""Reading openings once: what all answers to a post begin from."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, EncoderDecoderCache, PreTrainedModel

from mulcot_rd.generation.drafts import CONTEXTS
from mulcot_rd.models.branches import branch_rows
from mulcot_rd.models.forward import read
from mulcot_rd.models.inputs import InputEncoder, Prompt
from mulcot_rd.prompts import Task


@dataclass(frozen=True)
class Branch:
    """The end of one task's prompt as the model has read it behind the opening.

    Attributes:
        ending: Keys and values of the ending [2 x layers, tokens, heads, units]; even entries keys, odd ones values.
        state: Last hidden state of the prompt [hidden size]: the first token of any answer follows from it.
        position: Rotary position of that first token.
        last_tokens: The last token ids of the prompt.
        rotary_dimensions: Dimensions of the family's positions: 3 for time, height and width, 1 for plain ones, 0 for
            families that take none.
    """

    ending: Tensor
    state: Tensor
    position: int
    last_tokens: list[int]
    rotary_dimensions: int


@dataclass(frozen=True)
class ReadPost:
    """A post's opening and the endings of its tasks as the model has read them, in one pass.

    Attributes:
        opening: Keys and values of the opening [2 x layers, tokens, heads, units]; no tokens in encoder-decoder
            families, whose decoder never sees the opening itself.
        branches: Task to its ending.
        crossed: Keys and values that the decoder's attention has of the encoder's states; ``None`` without encoder.
    """

    opening: Tensor
    branches: dict[Task, Branch]
    crossed: Tensor | None


def read_posts(
    base: PreTrainedModel, encoder: InputEncoder, prompts: Sequence[dict[Task, Prompt]], images: Sequence[str]
) -> list[ReadPost]:
    """Read the prompts of posts: each opening and image once, whatever the number of tasks.

    Args:
        base: The family's model.
        encoder: Knows the family.
        prompts: Each post's prompts, of the same tasks for all posts.
        images: Path of each post's image.
    """
    openings = [next(iter(own.values())).opening for own in prompts]
    branches = [[prompt.ending for prompt in own.values()] for own in prompts]
    rows, begins = branch_rows(openings, branches, images, encoder)
    cache: Cache = DynamicCache()
    crossed: Cache | None = None
    if rows.family.encoder_decoder:
        crossed = DynamicCache()
        cache = EncoderDecoderCache(cache, crossed)
    states, positions = read(base, rows, cache)
    dimensions = 0 if positions is None else 3 if positions.dim() == 3 else 1
    own = _stacked(cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache)
    other = None if crossed is None else _stacked(crossed)
    posts = []
    for index, (opening, prompt, starts) in enumerate(zip(openings, prompts, begins, strict=True)):
        read_branches = {}
        for (task, parts), start in zip(prompt.items(), starts, strict=True):
            end = start + len(parts.ending)
            position = 0 if positions is None else int(positions[..., index, end - 1].max()) + 1
            ending, state = own[:, index, start:end].clone(), states[index, end - 1].clone()
            read_branches[task] = Branch(ending, state, position, parts.ending[-CONTEXTS[0] :], dimensions)
        posts.append(
            ReadPost(
                opening=own[:, index, : starts[0]].clone(),
                branches=read_branches,
                crossed=None if other is None else other[:, index, : len(opening)].clone(),
            )
        )
    return posts


def _stacked(cache: Cache) -> Tensor:
    """Keys and values of all layers [2 x layers, rows, tokens, heads, units]."""
    return torch.stack([tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]).transpose(2, 3)
