"""A family's model over rows of branches: one function for families with and without an encoder."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from mulcot_rd.models.family import Family


@dataclass(frozen=True)
class Rows:
    """B rows of token ids, right-padded to length L, as a family's model reads them.

    A row is an opening with a branch for each task behind it; in encoder-decoder families the opening stands apart
    and the row holds the branches alone.

    Attributes:
        family: The family whose models read them.
        input_ids: Token ids [B, L]; the decoder's where there is an encoder.
        attention: Which positions may look at which, boolean [B, 1, L, L].
        branch_offset: What the positions of each token are set back by, [B, L]; zero in opening and first branch.
        valid: Which positions are not padding, boolean [B, L].
        image_positions: Which positions are pieces of the image, boolean [B, L].
        images: The images, as the family's ``image_inputs`` or ``encode_images`` gives them.
        encoder_ids: The openings [B, L'] for the encoder; ``None`` in families without one.
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


# Rows and columns of N positions.
Places = tuple[Tensor, Tensor]


def states_at(base: PreTrainedModel, rows: Rows, places: Places) -> Tensor:
    """Last hidden states [N, hidden size] at N positions of the rows; ``base.lm_head`` makes logits of them."""
    states, _ = read(base, rows, cache=None, places=places)
    return states[places[0].to(states.device), places[1].to(states.device)]


def read(base: PreTrainedModel, rows: Rows, cache: Cache | None, places: Places) -> tuple[Tensor, Tensor | None]:
    """The rows' last hidden states [B, L, hidden size], and their positions [B, L] or [3, B, L].

    Args:
        base: The family's model.
        rows: What it reads.
        places: Positions, each once, whose states are asked for: those of others mean nothing, since the last MLP,
            on which only its own position's state depends, leaves them out.
        cache: Takes in the keys and values of all layers; ``None`` keeps none. Encoder-decoder families need an
            ``EncoderDecoderCache``.

    Returns:
        States and rotary positions; encoder-decoder families have relative positions alone, hence ``None``.
    """
    device = base.device
    bias = additive_mask(rows.attention.to(device), base.dtype)
    if rows.family.encoder_decoder:
        return _decoder_states(base, rows, bias, cache, places), None
    # The rotary positions of the whole row as one text; a later branch is then set back to the opening's end.
    positions = rows.family.positions(base, rows.input_ids, rows.valid, rows.image_positions, rows.images)
    positions = (positions - rows.branch_offset).to(device)
    input_ids, image_positions = rows.input_ids.to(device), rows.image_positions.to(device)
    images = {name: tensor.to(device) for name, tensor in rows.images.items()}
    with _last_mlp_at(places, base, rows):
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


@contextmanager
def _last_mlp_at(places: Places, base: PreTrainedModel, rows: Rows) -> Iterator[None]:
    """While inside, the last layer's MLP works on the states at these places, and gives zero for all others."""
    # Recomputing for the backward pass happens outside, and must find the same module.
    if base.training and base.is_activation_checkpointing:
        yield
        return
    count, length = rows.input_ids.shape
    chosen = (places[0] * length + places[1]).to(base.device)

    def narrow(_: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
        return (given[0].flatten(0, 1).index_select(0, chosen),)

    def widen(_: nn.Module, __: tuple[Tensor], made: Tensor) -> Tensor:
        states = made.new_zeros((count * length, made.shape[-1]))
        return states.index_copy(0, chosen, made).view(count, length, -1)

    mlp = rows.family.last_mlp(base)
    hooks = [mlp.register_forward_pre_hook(narrow), mlp.register_forward_hook(widen)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _decoder_states(base: PreTrainedModel, rows: Rows, bias: Tensor, cache: Cache | None, places: Places) -> Tensor:
    """One pass of the encoder over the openings, one of the decoder over all branches.

    Relative position biases depend on distances alone, so a branch that sees only itself needs no offset.
    """
    if rows.encoder_ids is None or rows.encoder_valid is None:
        raise ValueError("rows of an encoder-decoder family need their openings in encoder_ids")
    opening_mask = rows.encoder_valid.to(base.device).long()
    openings = base.encoder(input_ids=rows.encoder_ids.to(base.device), attention_mask=opening_mask)
    with _last_mlp_at(places, base, rows):
        return base.decoder(
            input_ids=rows.input_ids.to(base.device),
            attention_mask=bias,
            encoder_hidden_states=openings.last_hidden_state,
            encoder_attention_mask=opening_mask,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
