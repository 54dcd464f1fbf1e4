"""The forward pass of training and of soft-label caching: states at target positions only."""

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from mulcot_rd.prompts import Task
from mulcot_rd.training.batches import Batch


def target_states(model: PeftModel | PreTrainedModel, batch: Batch) -> dict[Task, Tensor]:
    """Last hidden states at the positions that predict a target token.

    Args:
        model: A vision-language model of one of the families, with or without adapter.
        batch: A micro-batch with its branches.

    Returns:
        Task name to states [N, hidden size], in the order of ``batch.targets``.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    device = base.device
    input_ids = batch.input_ids.to(device)
    grid = batch.image_grid_thw.to(device)
    token_types = batch.image_positions.to(device).int()
    # The rotary positions of the whole row as one text; a later branch is then set back to the opening's end.
    positions, _ = base.model.get_rope_index(
        input_ids,
        image_grid_thw=grid,
        attention_mask=batch.valid.to(device).long(),
        mm_token_type_ids=token_types,
    )
    positions = positions - batch.branch_offset.to(device)
    allowed = batch.attention.to(device)
    bias = torch.zeros(allowed.shape, dtype=base.dtype, device=device).masked_fill(
        ~allowed, torch.finfo(base.dtype).min
    )
    states = base.model(
        input_ids=input_ids,
        attention_mask=bias,
        position_ids=positions,
        pixel_values=batch.pixel_values.to(device),
        image_grid_thw=grid,
        mm_token_type_ids=token_types,
        use_cache=False,
    ).last_hidden_state
    return {task: states[rows.to(device), places.to(device)] for task, (rows, places) in batch.predictors.items()}


def head_logits(model: PeftModel | PreTrainedModel, states: dict[Task, Tensor]) -> dict[Task, Tensor]:
    """Logits [N, V] of the model's own head for states [N, hidden size] of each task."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    return {task: base.lm_head(values) for task, values in states.items()}
