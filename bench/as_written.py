"""The method in its plain form, for comparison: what the equations say when they are typed in as they stand.

Two passes a sample, one for each task; the assistant live at every step; logits of whole sequences; padding to the
batch's longest row; the reference objective; AdamW. Nothing here is slowed down on purpose: batches, attention kernels
and numbers of threads are those that the project's own form uses. The tests hold everything faster against it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import GenerationConfig

from mulcot_rd.models.inputs import InputEncoder, Prompt
from mulcot_rd.models.lora import TrainedModel
from mulcot_rd.prompts import TASKS, Task
from mulcot_rd.training.batches import Example
from mulcot_rd.training.objective import Loss, StudentLossWeights, TaskWeights, plain_loss, reference_student_loss


def distillation_loss(
    student: TrainedModel,
    assistant: TrainedModel,
    encoder: InputEncoder,
    examples: Sequence[Example],
    weights: StudentLossWeights,
    window_tokens: dict[Task, int] | None = None,
) -> Loss:
    """The student's loss of a batch (Eqs. 9 to 13), or its share of a window's, by passes for each task and model."""
    logits, taught, targets = {}, {}, {}
    for task in TASKS:
        inputs, predicts, targets[task] = task_inputs(encoder, examples, task)
        logits[task] = student(**inputs).logits[predicts]
        with torch.no_grad():
            taught[task] = assistant(**inputs).logits[predicts]
    if window_tokens is None:
        return reference_student_loss(logits, targets, taught, weights)
    return plain_loss(logits, targets, taught, weights, window_tokens)


def multi_task_loss(
    model: TrainedModel, encoder: InputEncoder, examples: Sequence[Example], weights: TaskWeights
) -> Loss:
    """The assistant's loss of a batch (Eqs. 5 and 6), by a pass for each task."""
    logits, targets = {}, {}
    for task in TASKS:
        inputs, predicts, targets[task] = task_inputs(encoder, examples, task)
        logits[task] = model(**inputs).logits[predicts]
    counts = {task: len(ids) for task, ids in targets.items()}
    student_weights = StudentLossWeights.without_soft_labels(weights, len(encoder.tokenizer))
    return plain_loss(logits, targets, None, student_weights, counts)


def task_inputs(
    encoder: InputEncoder, examples: Sequence[Example], task: Task
) -> tuple[dict[str, object], Tensor, Tensor]:
    """A model's inputs for one task, which positions of its logits predict a target [B, L], and the target ids."""
    family = encoder.family
    prefixes = [example.prefix for example in examples]
    answers = [example.suffixes[task] + example.targets[task] for example in examples]
    rows = answers if family.encoder_decoder else [one + other for one, other in zip(prefixes, answers, strict=True)]
    ids, attention = _padded(rows, encoder)
    predicts = torch.zeros_like(ids, dtype=torch.bool)
    for number, (row, example) in enumerate(zip(rows, examples, strict=True)):
        predicts[number, len(row) - len(example.targets[task]) - 1 : len(row) - 1] = True
    targets = torch.tensor([token for example in examples for token in example.targets[task]])
    if family.encoder_decoder:
        encoder_ids, encoder_attention = _padded(prefixes, encoder)
        inputs = {"input_ids": encoder_ids, "attention_mask": encoder_attention, "decoder_input_ids": ids}
        return inputs, predicts, targets
    images = encoder.images([example.image for example in examples])
    kwargs = family.forward_kwargs(encoder.image_positions(ids), images)
    return {"input_ids": ids, "attention_mask": attention, **kwargs}, predicts, targets


def _padded(rows: Sequence[Sequence[int]], encoder: InputEncoder) -> tuple[Tensor, Tensor]:
    """Rows right-padded [B, L], and the mask of what is not padding."""
    length = max(len(row) for row in rows)
    ids = torch.full((len(rows), length), encoder.tokenizer.pad_token_id, dtype=torch.long)
    attention = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        attention[number, : len(row)] = 1
    return ids, attention


@torch.no_grad()
def written_answers(
    model: TrainedModel,
    encoder: InputEncoder,
    prompts: Sequence[Prompt],
    images: Sequence[str],
    batch_size: int,
    max_new_tokens: int,
) -> list[list[int]]:
    """Greedy answers to prompts by ``generate``, batch by batch in the order given, left-padded.

    Returns:
        Token ids of each answer, cut behind the end of the turn.
    """
    tokenizer = encoder.tokenizer
    surplus = list(range(len(tokenizer), model.config.get_text_config().vocab_size))
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        suppress_tokens=surplus or None,
    )
    written: list[list[int]] = []
    for start in range(0, len(prompts), batch_size):
        rows = [list(prompt.ids) for prompt in prompts[start : start + batch_size]]
        length = max(map(len, rows))
        ids = torch.tensor([[tokenizer.pad_token_id] * (length - len(row)) + row for row in rows]).to(model.device)
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows]).to(model.device)
        found = encoder.images(images[start : start + batch_size])
        given = {name: tensor.to(model.device) for name, tensor in found.items()}
        kwargs = encoder.family.forward_kwargs(encoder.image_positions(ids), given)
        answers = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings, **kwargs)[:, length:]
        for answer in answers.tolist():
            ends = answer.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in answer else len(answer)
            written.append(answer[:ends])
    return written
