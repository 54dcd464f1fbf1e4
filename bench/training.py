"""Student distillation: samples a second, peak memory, and what ten times the posts do to it.

A sample is one training row with both tasks, forward and backward; an optimiser step stands at the end of each window.
Run as a script it trains in one form and prints the peak of its own memory:
``training.py FORM SCALE FOLDER POSTS ROWS``, with the first so many of the rows that so many posts give.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from as_written import distillation_loss
from mulcot_rd.prompts import Task
from mulcot_rd.training.batches import Batch, Example, collate, micro_batches, windows
from mulcot_rd.training.forward import target_states
from mulcot_rd.training.fused import fused_student_loss, output_head
from mulcot_rd.training.images import ImageStore
from mulcot_rd.training.prefetch import ahead
from mulcot_rd.training.roles import Role
from mulcot_rd.training.soft_labels import SoftLabelParameters, SoftLabels
from settings import BATCH_SIZE, SCALES, WINDOW, Scale, Setting
from timing import alternate, own_peak_mebibytes, peak_mebibytes, row

AS_WRITTEN = "as written: two passes a sample, assistant live, whole-sequence logits"

PEAKS = 3
MANY_POSTS = 240

# Trains over all windows once and returns the loss of the last micro-batch.
Epoch = Callable[[], torch.Tensor]


def rows(scratch: Path, repetitions: int) -> list[dict]:
    """Speed and memory at both scales."""
    made = []
    for scale in SCALES:
        setting = Setting(scale, scratch / scale)
        student, assistant = setting.role("student"), setting.role("assistant")
        examples = setting.examples(student)
        stored = setting.soft_labels(assistant, examples)
        forms = [ours(setting, student, examples, stored), _as_written(setting, student, assistant, examples)]
        _check_equal(forms, student)
        fast, slow = alternate(forms, repetitions)
        speeds = (len(examples) / fast, len(examples) / slow)
        made.append(row("student_training_samples_per_s", scale, *speeds, AS_WRITTEN, "samples/s", repetitions))
        del student, assistant, forms
        fused, plain = (_peak_of(form, setting, len(examples)) for form in ("ours", "as_written"))
        made.append(row("student_training_peak_memory", scale, fused, plain, AS_WRITTEN, "MiB", PEAKS))
    return [*made, _ten_times_the_posts(scratch)]


def _ten_times_the_posts(scratch: Path) -> dict:
    """Peak memory of the same model with all the sample's training rows, and with a tenth of them."""
    setting = Setting("tiny", scratch / "many", MANY_POSTS)
    assistant = setting.role("assistant")
    examples = setting.examples(assistant)
    setting.soft_labels(assistant, examples)
    many, few = (_peak_of("ours", setting, rows) for rows in (len(examples), len(examples) // 10))
    name = f"{len(examples) // 10} rows in place of {len(examples)}"
    return row("student_training_peak_memory_10x_posts", "tiny", many, few, name, "MiB", PEAKS)


def _peak_of(form: str, setting: Setting, rows: int) -> float:
    arguments = [form, setting.scale, str(setting.folder), str(setting.rows), str(rows)]
    return peak_mebibytes("training", arguments, PEAKS)


def ours(setting: Setting, student: Role, examples: Sequence[Example], stored: SoftLabels) -> Epoch:
    """The project's own form, of the parts that its training loop is made of."""
    head, device = output_head(student.model), student.model.device
    images = ImageStore(setting.folder / "images", student.encoder, student.model, "bench")
    images.prepare([example.image for example in examples])
    weights = setting.weights(student)

    def prepare(indices: Sequence[int]) -> Batch:
        batch = collate([examples[index] for index in indices], student.encoder, images)
        return replace(batch, assistant=stored.distributions(indices, examples, device))

    def loss(batch: Batch, counts: dict[Task, int]) -> torch.Tensor:
        states = target_states(student.model, batch)
        return fused_student_loss(head, states, batch.targets, batch.assistant, weights, counts).total

    return _epoch(setting.scale, student, examples, prepare, loss)


def _as_written(setting: Setting, student: Role, assistant: Role, examples: Sequence[Example]) -> Epoch:
    """The plain form."""
    assistant.model.eval().requires_grad_(False)
    weights = setting.weights(student)

    def loss(chosen: Sequence[Example], counts: dict[Task, int]) -> torch.Tensor:
        return distillation_loss(student.model, assistant.model, student.encoder, chosen, weights, counts).total

    return _epoch(setting.scale, student, examples, lambda indices: [examples[i] for i in indices], loss)


def _epoch(
    scale: Scale,
    student: Role,
    examples: Sequence[Example],
    prepare: Callable[[Sequence[int]], object],
    loss: Callable[[object, dict[Task, int]], torch.Tensor],
) -> Epoch:
    """One pass over the rows with steps of AdamW, the same for both forms."""
    lengths = [example.length for example in examples]
    order = windows(lengths, WINDOW[scale], seed=1, epoch=0)
    cut = [list(micro_batches(window, BATCH_SIZE[scale], lengths)) for window in order]
    trained = [parameter for parameter in student.model.parameters() if parameter.requires_grad]
    # A rate of zero: each repetition does the same work on the same weights.
    optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=0.0, fused=True)

    def run() -> torch.Tensor:
        student.model.train()
        batches = ahead(prepare, (indices for window in cut for indices in window))
        for window, pieces in zip(order, cut, strict=True):
            counts: dict[Task, int] = {}
            for index in window:
                for task, ids in examples[index].targets.items():
                    counts[task] = counts.get(task, 0) + len(ids)
            for _ in pieces:
                value = loss(next(batches), counts)
                value.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return value.detach()

    return run


def _check_equal(forms: Sequence[Epoch], student: Role) -> None:
    """Both do the same work: equal losses without dropout, or the comparison would mean nothing."""
    dropouts = [module for module in student.model.modules() if isinstance(module, torch.nn.Dropout)]
    shares = [module.p for module in dropouts]
    for module in dropouts:
        module.p = 0.0
    torch.testing.assert_close(forms[0](), forms[1](), rtol=1e-4, atol=1e-5)
    for module, share in zip(dropouts, shares, strict=True):
        module.p = share


def _peak(form: str, scale: Scale, folder: Path, posts: int, taken: int) -> None:
    setting = Setting(scale, folder, posts)
    student = setting.role("student")
    examples = setting.examples(student)[:taken]
    if form == "ours":
        stored = SoftLabels(setting.soft_label_folder(SoftLabelParameters(**setting.parameters["soft_labels"])))
        epoch = ours(setting, student, examples, stored)
    else:
        epoch = _as_written(setting, student, setting.role("assistant"), examples)
    for _ in range(2):
        epoch()
    print(json.dumps({"peak_mebibytes": own_peak_mebibytes()}))


if __name__ == "__main__":
    _peak(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
