"""The forward pass of training and of soft-label caching: states at target positions only."""

from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from mulcot_rd.models.forward import base_model, read
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
    states, _ = read(base_model(model), batch)
    return {
        task: states[rows.to(states.device), columns.to(states.device)]
        for task, (rows, columns) in batch.predictors.items()
    }


def head_logits(model: PeftModel | PreTrainedModel, states: dict[Task, Tensor]) -> dict[Task, Tensor]:
    """Logits [N, V] of the model's own head for states [N, hidden size] of each task."""
    head = base_model(model).lm_head
    return {task: head(values) for task, values in states.items()}
