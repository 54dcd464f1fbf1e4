"""The method in its plain form, for comparison: two passes a sample, the assistant live at every step.

Padding to the batch's longest row, whole-sequence logits of both models, the reference objective. Nothing here is
slowed down on purpose; it is what Eqs. 9 to 13 say when they are typed in as they stand.
"""

from collections.abc import Sequence

import torch
from peft import PeftModel

from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.prompts import TASKS, Task
from mulcot_rd.training.batches import Example
from mulcot_rd.training.objective import StudentLoss, StudentLossWeights, reference_student_loss


def distillation_loss(
    student: PeftModel,
    assistant: PeftModel,
    encoder: InputEncoder,
    examples: Sequence[Example],
    weights: StudentLossWeights,
) -> StudentLoss:
    """The student's loss of a batch, by separate passes for each task and model."""
    logits, taught, targets = {}, {}, {}
    for task in TASKS:
        inputs, mask, ids = _padded(encoder, examples, task)
        logits[task] = student(**inputs).logits[:, :-1][mask]
        with torch.no_grad():
            taught[task] = assistant(**inputs).logits[:, :-1][mask]
        targets[task] = ids
    return reference_student_loss(logits, targets, taught, weights)


def _padded(encoder: InputEncoder, examples: Sequence[Example], task: Task) -> tuple[dict, torch.Tensor, torch.Tensor]:
    """Right-padded inputs, which positions predict a target [B, L - 1], and the target ids."""
    rows = [example.opening + example.endings[task] + example.targets[task] for example in examples]
    length = max(len(row) for row in rows)
    input_ids = torch.full((len(rows), length), encoder.tokenizer.pad_token_id, dtype=torch.long)
    attention = torch.zeros_like(input_ids)
    predicts = torch.zeros((len(rows), length - 1), dtype=torch.bool)
    for number, (row, example) in enumerate(zip(rows, examples, strict=True)):
        input_ids[number, : len(row)] = torch.tensor(row)
        attention[number, : len(row)] = 1
        predicts[number, len(row) - len(example.targets[task]) - 1 : len(row) - 1] = True
    images = encoder.images([example.image for example in examples])
    inputs = {
        "input_ids": input_ids,
        "attention_mask": attention,
        **encoder.family.forward_kwargs(encoder.image_positions(input_ids), images),
    }
    return inputs, predicts, input_ids[:, 1:][predicts]
