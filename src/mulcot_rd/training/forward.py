"""The forward pass of training and of soft-label caching: states at target positions only, and the output head."""

from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812 - the name that PyTorch's own documentation uses
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from torch import Tensor
from transformers import PreTrainedModel

from mulcot_rd.errors import UserError
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


@dataclass(frozen=True)
class OutputHead:
    """What turns a model's last hidden states into logits.

    Attributes:
        weight: [V, H].
        bias: [V], if there is one.
        scale: What states are multiplied with before (T5 with tied embeddings), else 1.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0

    def logits(self, states: Tensor) -> Tensor:
        """Logits [n, V] of states [n, H]."""
        return F.linear(states if self.scale == 1.0 else states * self.scale, self.weight, self.bias)

    def cut(self, vocabulary_size: int) -> "OutputHead":
        """The head of the first ``vocabulary_size`` ids, sharing memory with this one."""
        bias = None if self.bias is None else self.bias[:vocabulary_size]
        return OutputHead(self.weight[:vocabulary_size], bias, self.scale)


def output_head(model: PeftModel | PreTrainedModel) -> OutputHead:
    """The output head in use: where peft trains it whole, the trained copy.

    Raises:
        UserError: If the head carries a low-rank adapter: its logits are then not one matrix product.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    head = base.lm_head
    if isinstance(head, ModulesToSaveWrapper):
        head = head.modules_to_save[head.active_adapter]
    if isinstance(head, BaseTunerLayer):
        raise UserError(
            "the output head has a low-rank adapter, which the objective can't use: take lm_head out of "
            "adapter.target_modules, or name it in adapter.modules_to_save"
        )
    scaled = getattr(base.config, "scale_decoder_outputs", False)
    return OutputHead(head.weight, head.bias, base.config.d_model**-0.5 if scaled else 1.0)
