"""The forward pass of training and of soft-label caching: states at target positions only."""

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from mulcot_rd.models.forward import base_model, states_at
from mulcot_rd.prompts import Task
from mulcot_rd.training.batches import Batch


def target_states(model: PeftModel | PreTrainedModel, batch: Batch) -> dict[Task, Tensor]:
    """Last hidden states at the positions that predict a target token.

    Args:
        model: A model of one of the families, with or without adapter.
        batch: A micro-batch with its branches.

    Returns:
        Task name to states [N, hidden size], in the order of ``batch.targets``.
    """
    rows, columns = zip(*batch.predictors.values(), strict=True)
    states = states_at(base_model(model), batch, (torch.cat(rows), torch.cat(columns)))
    return dict(zip(batch.predictors, states.split([len(own) for own in rows]), strict=True))


def head_logits(model: PeftModel | PreTrainedModel, states: dict[Task, Tensor]) -> dict[Task, Tensor]:
    """Logits [N, V] of the model's own head for states [N, hidden size] of each task."""
    head = base_model(model).lm_head
    return {task: head(values) for task, values in states.items()}
