"""Student distillation: samples a second, peak memory, and what ten times the posts do to it.

A sample is one training row with both tasks, forward and backward; an optimiser step stands at the end of each window.
Run as a script it trains in one form and prints the peak of its own memory:
``training.py FORM SCALE FOLDER POSTS ROWS``, with the first so many of the rows that so many posts give.
"""

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from mulcot_rd.training.learner import Learner, Preparation, TrainingPool

from as_written import distillation_loss
from mulcot_rd.models.loaded import LoadedModel
from mulcot_rd.prompts import TASKS, Task
from mulcot_rd.training.batches import Example, micro_batches, windows
from mulcot_rd.training.images import ImageStore
from mulcot_rd.training.objective import StudentLossWeights
from mulcot_rd.training.soft_labels import SoftLabelParameters, SoftLabels
from mulcot_rd.training.student import StudentObjective
from settings import BATCH_SIZE, SCALES, WINDOW, Scale, Setting
from timing import alternate, own_peak_mebibytes, peak_mebibytes, row, with_workers

AS_WRITTEN = "as written: two passes a sample, assistant live, whole-sequence logits"

PEAKS = 1
MANY_POSTS = 120

# Trains over all windows once and returns the loss of the last one.
Epoch = Callable[[], float]


def rows(scratch: Path, repetitions: int) -> Iterator[dict]:
    """Speed and memory at both scales."""
    for scale in SCALES:
        setting = Setting(scale, scratch / scale)
        student, assistant = setting.role("student"), setting.role("assistant")
        examples = setting.examples(student)
        stored = setting.soft_labels(assistant, examples)
        _check_equal(setting, student, assistant, examples, stored)
        with ExitStack() as stack:
            forms = [ours(setting, student, examples, stored, stack)]
            forms.append(_as_written(setting, student, assistant, examples))
            fast, slow = (len(examples) / seconds for seconds in alternate(forms, repetitions))
        yield row("student_training_samples_per_s", scale, fast, slow, AS_WRITTEN, "samples/s", repetitions)
        del student, assistant, forms
        fused, plain = (_peak_of(form, setting, len(examples)) for form in ("ours", "as_written"))
        yield row("student_training_peak_memory", scale, fused, plain, AS_WRITTEN, "MiB", PEAKS)
    yield _ten_times_the_posts(scratch)


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


def ours(
    setting: Setting,
    student: LoadedModel,
    examples: Sequence[Example],
    stored: SoftLabels,
    stack: ExitStack,
) -> Epoch:
    """The project's own form, of the parts that its training loop is made of; workers run until ``stack`` closes."""
    images = ImageStore(setting.folder / "images", student.encoder, student.model, "bench")
    images.prepare([example.image for example in examples])
    prepare = Preparation(examples, student.encoder, images, stored, student.model.device)
    loss = StudentObjective(student.model, setting.weights(student))
    pool = TrainingPool(Learner(student.model, student.encoder, prepare, loss), setting.workers(student))

    def window(cut: Sequence[Sequence[int]], counts: dict[Task, int]) -> float:
        terms = pool.step(list(range(len(cut))), counts)
        return _total(terms, setting.weights(student))

    epoch = _epoch(setting.scale, student, examples, pool.begin, window)
    return with_workers(pool, epoch, stack)


def _total(terms: Mapping[str, float], weights: StudentLossWeights) -> float:
    """Eq. 13 of a window's terms."""
    hard = sum(weights.hard.of(task) * terms[f"{task}_loss"] for task in TASKS)
    soft = sum(weights.soft.of(task) * terms[f"{task}_soft_loss"] for task in TASKS)
    return (1 - weights.kd_ratio) * hard + weights.kd_ratio * soft


def _as_written(setting: Setting, student: LoadedModel, assistant: LoadedModel, examples: Sequence[Example]) -> Epoch:
    """The plain form."""
    assistant.model.eval().requires_grad_(False)
    weights = setting.weights(student)

    def begin(_: Sequence[Sequence[Sequence[int]]]) -> None:
        student.model.train()

    def window(cut: Sequence[Sequence[int]], counts: dict[Task, int]) -> float:
        sums = 0.0
        for indices in cut:
            chosen = [examples[index] for index in indices]
            loss = distillation_loss(student.model, assistant.model, student.encoder, chosen, weights, counts).total
            loss.backward()
            sums += float(loss)
        return sums

    return _epoch(setting.scale, student, examples, begin, window)


def _epoch(
    scale: Scale,
    student: LoadedModel,
    examples: Sequence[Example],
    begin: Callable[[Sequence[Sequence[Sequence[int]]]], None],
    window: Callable[[Sequence[Sequence[int]], dict[Task, int]], float],
) -> Epoch:
    """One pass over the rows with steps of AdamW, the same for both forms."""
    lengths = [example.length for example in examples]
    order = windows(lengths, WINDOW[scale], seed=1, epoch=0)
    cut = [list(micro_batches(rows, BATCH_SIZE[scale], lengths)) for rows in order]
    trained = [parameter for parameter in student.model.parameters() if parameter.requires_grad]
    # A rate of zero: each repetition does the same work on the same weights.
    optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=0.0, fused=True)

    def run() -> float:
        begin(cut)
        for rows, pieces in zip(order, cut, strict=True):
            counts: dict[Task, int] = {}
            for index in rows:
                for task, ids in examples[index].targets.items():
                    counts[task] = counts.get(task, 0) + len(ids)
            value = window(pieces, counts)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return value

    return run


def _check_equal(
    setting: Setting, student: LoadedModel, assistant: LoadedModel, examples: Sequence[Example], stored: SoftLabels
) -> None:
    """Both do the same work: equal losses without dropout, or the comparison would mean nothing."""
    dropouts = [module for module in student.model.modules() if isinstance(module, torch.nn.Dropout)]
    shares = [module.p for module in dropouts]
    for module in dropouts:
        module.p = 0.0
    with ExitStack() as stack:
        mine = ours(setting, student, examples, stored, stack)()
    plain = _as_written(setting, student, assistant, examples)()
    if not math.isclose(mine, plain, rel_tol=1e-4, abs_tol=1e-5):
        raise ValueError(f"the loss is {mine}, as written {plain}: the speeds can't be compared")
    for module, share in zip(dropouts, shares, strict=True):
        module.p = share


def _peak(form: str, scale: Scale, folder: Path, posts: int, taken: int) -> None:
    setting = Setting(scale, folder, posts)
    student = setting.role("student")
    examples = setting.examples(student)[:taken]
    with ExitStack() as stack:
        if form == "ours":
            stored = SoftLabels(setting.soft_label_folder(SoftLabelParameters(**setting.parameters["soft_labels"])))
            epoch = ours(setting, student, examples, stored, stack)
        else:
            epoch = _as_written(setting, student, setting.role("assistant"), examples)
        for _ in range(2):
            epoch()
        print(json.dumps({"peak_mebibytes": own_peak_mebibytes()}))


if __name__ == "__main__":
    _peak(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
