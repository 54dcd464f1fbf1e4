"""A family's model over rows of branches: one function for families with and without an encoder."""

from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import Tensor
from transformers import Cache, PreTrainedModel

from mulcot_rd.models.family import Family


@dataclass(frozen=True)
class Rows:
    """B rows of token ids, right-padded to length L, as a family's model reads them.

    A row is a prefix with a branch for each task behind it; in encoder-decoder families the prefix stands apart
    and the row holds the branches alone.

    Attributes:
        family: The family whose models read them.
        input_ids: Token ids [B, L]; the decoder's where there is an encoder.
        attention: Which positions may look at which, boolean [B, 1, L, L].
        branch_offset: What the positions of each token are set back by, [B, L]; zero in prefix and first branch.
        valid: Which positions are not padding, boolean [B, L].
        image_positions: Which positions are pieces of the image, boolean [B, L].
        images: The images, as the family's ``image_inputs`` or ``encode_images`` gives them.
        encoder_ids: The prefixes [B, L'] for the encoder; ``None`` in families without one.
        encoder_valid: Which positions of them are not padding, boolean [B, L'].
    """

    family: Family
    input_ids: Tensor
    attention: Tensor
    branch_offset: Tensor
    valid: Tensor
    image_positions: Tensor
    images: dict[str, Tensor]
    encoder_ids: Tensor | None
    encoder_valid: Tensor | None


def base_model(model: PeftModel | PreTrainedModel) -> PreTrainedModel:
    """The family's own model inside one with an adapter."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def read(base: PreTrainedModel, rows: Rows, cache: Cache | None = None) -> tuple[Tensor, Tensor | None]:
    """The rows' last hidden states [B, L, hidden size], and their positions [B, L] or [3, B, L].

    Args:
        base: The family's model.
        rows: What it reads.
        cache: Takes in the keys and values of all layers; ``None`` keeps none. Encoder-decoder families need an
            ``EncoderDecoderCache``.

    Returns:
        States and positions; families with relative positions alone have none, hence ``None``.
    """
    device = base.device
    bias = additive_mask(rows.attention.to(device), base.dtype)
    positions = None
    if not rows.family.relative_positions:
        # Those of the whole row as one text; a later branch is then set back to the prefix's end.
        positions = rows.family.positions(base, rows.input_ids, rows.valid, rows.image_positions, rows.images)
        positions = (positions - rows.branch_offset).to(device)
    if rows.family.encoder_decoder:
        return _decoder_states(base, rows, bias, positions, cache), positions
    input_ids, image_positions = rows.input_ids.to(device), rows.image_positions.to(device)
    images = {name: tensor.to(device) for name, tensor in rows.images.items()}
    states = base.model(
        input_ids=input_ids,
        attention_mask=bias,
        position_ids=positions,
        **rows.family.forward_kwargs(image_positions, images),
        past_key_values=cache,
        use_cache=cache is not None,
    ).last_hidden_state
    return states, positions


def additive_mask(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """A boolean mask as what is added to attention scores: zero where allowed, else the type's least value."""
    return (~allowed).to(dtype).mul_(torch.finfo(dtype).min)


def _decoder_states(
    base: PreTrainedModel, rows: Rows, bias: Tensor, positions: Tensor | None, cache: Cache | None
) -> Tensor:
    """One pass of the encoder over the prefixes, one of the decoder over all branches.

    Relative position biases depend on distances alone, so a branch that sees only itself needs no positions.
    """
    if rows.encoder_ids is None or rows.encoder_valid is None:
        raise ValueError("rows of an encoder-decoder family need their prefixes in encoder_ids")
    prefix_mask = rows.encoder_valid.to(base.device).long()
    prefixes = base.encoder(input_ids=rows.encoder_ids.to(base.device), attention_mask=prefix_mask)
    return rows.family.decoder_states(
        base,
        **({} if positions is None else {"position_ids": positions}),
        input_ids=rows.input_ids.to(base.device),
        attention_mask=bias,
        encoder_hidden_states=prefixes.last_hidden_state,
        encoder_attention_mask=prefix_mask,
        past_key_values=cache,
        use_cache=cache is not None,
    ).last_hidden_state
