"""Prefill: the model reads each post's prefix once, with a branch for the prompt of each task."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, EncoderDecoderCache, PreTrainedModel

from mulcot_rd.models.branches import branch_rows
from mulcot_rd.models.forward import read
from mulcot_rd.models.inputs import InputEncoder, Prompt
from mulcot_rd.prompts import Task
from mulcot_rd.schema import PostContent


class Branch(NamedTuple):
    """A prompt after prefill.

    Attributes:
        task: Which prompt.
        post_id: The post.
        keys_values: Keys and values of prefix and suffix [2 x layers, heads, tokens, units], keys at even places; of
            the suffix alone in encoder-decoder families.
        cross: The same of the encoder's states, for cross-attention; ``None`` without an encoder.
        last: The prompt's last token id, the number of tokens before it, and its rotary position, 0 in families that
            have none.
    """

    task: Task
    post_id: str
    keys_values: Tensor
    cross: Tensor | None
    last: tuple[int, int, int]


def prefill(
    base: PreTrainedModel,
    encoder: InputEncoder,
    posts: Sequence[PostContent],
    prompts: Mapping[str, Mapping[Task, Prompt]],
) -> list[Branch]:
    """Read the prompts of posts in one pass; the branches of a post share its prefix and its image.

    Args:
        base: The family's model.
        encoder: Makes its inputs.
        posts: The posts.
        prompts: Post id to the prompts of its tasks, the same tasks for all posts.

    Returns:
        A branch for each task of each post, in order.
    """
    own = [prompts[post.id] for post in posts]
    prefixes = [next(iter(tasks.values())).prefix for tasks in own]
    suffixes = [[prompt.suffix for prompt in tasks.values()] for tasks in own]
    rows, begins = branch_rows(prefixes, suffixes, [post.image for post in posts], encoder)
    apart = encoder.family.encoder_decoder
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache()) if apart else DynamicCache()
    _, positions = read(base, rows, cache)
    keys_values = _stacked(cache.self_attention_cache if apart else cache)
    crosses = _stacked(cache.cross_attention_cache) if apart else None
    branches = []
    for index, (post, prefix, tasks, starts) in enumerate(zip(posts, prefixes, own, begins, strict=True)):
        cross = None if crosses is None else crosses[:, index, :, : len(prefix)].clone()
        for (task, prompt), start in zip(tasks.items(), starts, strict=True):
            end = start + len(prompt.suffix)
            columns = [*range(starts[0]), *range(start, end)]
            position = 0 if positions is None else int(positions[..., index, end - 1].max())
            last = prompt.suffix[-1], len(columns) - 1, position
            branches.append(Branch(task, post.id, keys_values[:, index][:, :, columns], cross, last))
    return branches


def _stacked(cache: Cache) -> Tensor:
    """Keys and values of all layers [2 x layers, rows, heads, tokens, units]."""
    return torch.stack([tensor for layer in cache.layers for tensor in (layer.keys, layer.values)])
