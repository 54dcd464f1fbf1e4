"""Rows of branches as tensors: a prefix once, and a branch for each task behind it.

A branch sees the prefix and itself, never another branch, and its positions go on from the prefix's end. The model's
outputs on a branch are those of a separate pass over prefix and branch, at the cost of one prefix.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from mulcot_rd.models.forward import Rows
from mulcot_rd.models.inputs import InputEncoder


def branch_rows(
    prefixes: Sequence[Sequence[int]],
    branches: Sequence[Sequence[Sequence[int]]],
    images: Sequence[str | None],
    encoder: InputEncoder,
    image_inputs: Callable[[Sequence[str | None]], dict[str, Tensor]] | None = None,
) -> tuple[Rows, list[list[int]]]:
    """Lay out rows, right-padded; nothing is ever cut, so image tokens can't be lost.

    Args:
        prefixes: Token ids of each row's prefix; it goes into the encoder where the family has one.
        branches: Token ids of each row's branches.
        images: Path of each row's image; ``None`` where the model sees none.
        encoder: Knows the family, padding and images.
        image_inputs: Where the images' inputs come from, if they are stored; by default the encoder makes them.

    Returns:
        The rows, and the column where each branch of each row begins.
    """
    apart = encoder.family.encoder_decoder
    pieces = [[[] if apart else prefix, *own] for prefix, own in zip(prefixes, branches, strict=True)]
    input_ids, valid = padded([[token for piece in row for token in piece] for row in pieces], encoder)
    segment = torch.full_like(input_ids, -1)
    offset = torch.zeros_like(input_ids)
    begins: list[list[int]] = []
    for index, (prefix, *own) in enumerate(pieces):
        start = len(prefix)
        segment[index, :start] = 0
        begins.append([])
        for number, branch in enumerate(own, start=1):
            begins[-1].append(start)
            end = start + len(branch)
            segment[index, start:end] = number
            offset[index, start:end] = start - len(prefix)
            start = end
    encoder_ids, encoder_valid = padded(prefixes, encoder) if apart else (None, None)
    rows = Rows(
        family=encoder.family,
        input_ids=input_ids,
        attention=branch_attention(segment),
        branch_offset=offset,
        valid=valid,
        image_positions=encoder.image_positions(input_ids),
        images=(image_inputs or encoder.images)(images),
        encoder_ids=encoder_ids,
        encoder_valid=encoder_valid,
    )
    return rows, begins


def padded(rows: Sequence[Sequence[int]], encoder: InputEncoder) -> tuple[Tensor, Tensor]:
    """Rows of token ids, right-padded [B, L], and which positions are not padding."""
    length = max(len(row) for row in rows)
    ids = torch.full((len(rows), length), encoder.tokenizer.pad_token_id, dtype=torch.long)
    valid = torch.zeros_like(ids, dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row, dtype=torch.long)
        valid[index, : len(row)] = True
    return ids, valid


def branch_attention(segment: Tensor) -> Tensor:
    """Causal attention in which a position sees the prefix (segment 0) and its own segment; padding sees itself.

    Args:
        segment: Number of the piece that each position belongs to [B, L]; -1 is padding.

    Returns:
        Boolean [B, 1, L, L].
    """
    # NumPy, since a second thread that makes batches must not wake threads of torch's own beside those that compute.
    parts = segment.numpy()
    query, key = parts[:, :, None], parts[:, None, :]
    seen = np.tri(parts.shape[1], dtype=bool) & ((key == query) | (key == 0)) & (key >= 0)
    # A row of the mask with nothing in it makes softmax divide by zero.
    return torch.from_numpy(seen | np.eye(parts.shape[1], dtype=bool))[:, None]
