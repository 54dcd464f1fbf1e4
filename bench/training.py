"""Student distillation: samples a second, peak memory, and what ten times the posts do to it.

A sample is one training row with both tasks, forward and backward; an optimiser step stands at the end of each window.
Run as a script it trains in one form and prints the peak of its own memory:
``training.py FORM SCALE FOLDER POSTS ROWS``, with the first so many of the rows that so many posts give.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from as_written import distillation_loss
from mulcot_rd.distributed import Group, Job, launch
from mulcot_rd.models.loaded import LoadedModel
from mulcot_rd.prompts import TASKS, Task
from mulcot_rd.training.batches import Example, micro_batches, windows
from mulcot_rd.training.images import ImageStore
from mulcot_rd.training.loop import Trainer
from mulcot_rd.training.objective import StudentLossWeights
from mulcot_rd.training.parameters import OptimisationParameters
from mulcot_rd.training.prefetch import Preparation
from mulcot_rd.training.soft_labels import SoftLabelParameters, SoftLabels
from mulcot_rd.training.student import StudentObjective
from settings import BATCH_SIZE, SCALES, WINDOW, Scale, Setting
from timing import alternate_timed, own_peak_mebibytes, peak_mebibytes, row

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
        setting.soft_labels(assistant, examples)
        plain = _as_written(setting, student, assistant, examples)
        _check_equal(setting, [student, assistant], plain)
        forms = [lambda own=setting: ours(own)["seconds"], partial(_seconds, plain)]
        fast, slow = (len(examples) / seconds for seconds in alternate_timed(forms, repetitions))
        yield row("student_training_samples_per_s", scale, fast, slow, AS_WRITTEN, "samples/s", repetitions)
        del student, assistant, plain, forms
        fused, plain_peak = (_peak_of(form, setting, len(examples)) for form in ("ours", "as_written"))
        yield row("student_training_peak_memory", scale, fused, plain_peak, AS_WRITTEN, "MiB", PEAKS)
    yield _ten_times_the_posts(scratch)


def _ten_times_the_posts(scratch: Path) -> dict:
    """Peak memory of the same model with all the sample's training rows, and with a tenth of them."""
    setting = Setting("tiny", scratch / "many", MANY_POSTS)
    # The checkpoints are made here, before several workers look for them.
    student, assistant = setting.role("student"), setting.role("assistant")
    examples = setting.examples(student)
    setting.soft_labels(assistant, examples)
    many, few = (_peak_of("ours", setting, rows) for rows in (len(examples), len(examples) // 10))
    name = f"{len(examples) // 10} rows in place of {len(examples)}"
    return row("student_training_peak_memory_10x_posts", "tiny", many, few, name, "MiB", PEAKS)


def _peak_of(form: str, setting: Setting, rows: int) -> float:
    arguments = [form, setting.scale, str(setting.folder), str(setting.rows), str(rows)]
    return peak_mebibytes("training", arguments, PEAKS)


class EpochsJob(Job):
    """The project's own training loop over the same rows twice, of which the second time counts.

    Attributes:
        scale: Of the models.
        folder: Where checkpoints and soft labels are.
        posts: Training posts of the sample at tiny scale.
        rows: The first so many of the rows that they give.
        dropout: Whether dropout is on.
    """

    scale: Scale
    folder: Path
    posts: int
    rows: int | None
    dropout: bool

    def run(self, group: Group) -> dict[str, float]:
        """Train; returns seconds of the second epoch, its last loss, and the peak of memory of all processes."""
        setting = Setting(self.scale, self.folder, self.posts)
        student = setting.role("student")
        if not self.dropout:
            _without_dropout(student)
        examples = setting.examples(student)[: self.rows]
        stored = SoftLabels(setting.soft_label_folder(SoftLabelParameters(**setting.parameters["soft_labels"])))
        images = ImageStore(setting.folder / "images", student.encoder, student.model, "bench")
        images.prepare([example.image for example in examples], group)
        ended: list[float] = []

        def validate(step: int) -> dict[str, float]:
            ended.append(time.perf_counter())
            return {"score": 0.0}

        batch, window = BATCH_SIZE[self.scale], WINDOW[self.scale]
        weights = setting.weights(student)
        with TemporaryDirectory() as scratch:
            folder = Path(group.broadcast(scratch))
            outcome = Trainer(
                name="student",
                model=student.model,
                objective=StudentObjective(student.model, weights),
                prepare=Preparation(examples, student.encoder, images, stored, student.model.device),
                examples=examples,
                validate=validate,
                # A rate of nearly zero: each repetition does the same work on the same weights.
                parameters=OptimisationParameters(
                    epochs=2,
                    batch_size=batch,
                    gradient_accumulation_steps=window // batch,
                    learning_rate=1e-30,
                    min_lr=0.0,
                    checkpoint_minutes=1e6,
                ),
                seed=1,
                folder=folder,
                fingerprint="bench",
                group=group,
            ).run()
            group.barrier()
        peak = sum(group.gather(own_peak_mebibytes()))
        loss = _total(outcome.history[-2], weights) if outcome else 0.0
        return {"seconds": ended[1] - ended[0], "loss": loss, "peak": peak}


def ours(setting: Setting, rows: int | None = None, dropout: bool = True) -> dict[str, float]:
    """The project's own form, in as many processes as a training of the sample has."""
    job = EpochsJob(scale=setting.scale, folder=setting.folder, posts=setting.rows, rows=rows, dropout=dropout)
    return launch(job, setting.cluster, setting.folder / "job", WINDOW[setting.scale] // BATCH_SIZE[setting.scale])


def _without_dropout(model: LoadedModel) -> None:
    for module in model.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def _seconds(epoch: Epoch) -> float:
    started = time.perf_counter()
    epoch()
    return time.perf_counter() - started


def _total(terms: Mapping[str, float], weights: StudentLossWeights) -> float:
    """Eq. 13 of a window's terms."""
    hard = sum(weights.hard.of(task) * terms[f"{task}_loss"] for task in TASKS)
    soft = sum(weights.soft.of(task) * terms[f"{task}_soft_loss"] for task in TASKS)
    return (1 - weights.kd_ratio) * hard + weights.kd_ratio * soft


def _as_written(setting: Setting, student: LoadedModel, assistant: LoadedModel, examples: Sequence[Example]) -> Epoch:
    """The plain form."""
    assistant.model.eval().requires_grad_(False)
    weights = setting.weights(student)
    lengths = [example.length for example in examples]
    # The order of the last epoch of our form, whose last window's loss is compared.
    order = windows(lengths, WINDOW[setting.scale], seed=1, epoch=1)
    trained = [parameter for parameter in student.model.parameters() if parameter.requires_grad]
    # A rate of zero: each repetition does the same work on the same weights.
    optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=0.0, fused=True)

    def run() -> float:
        student.model.train()
        for window in order:
            counts: dict[Task, int] = {}
            for index in window:
                for task, ids in examples[index].targets.items():
                    counts[task] = counts.get(task, 0) + len(ids)
            sums = 0.0
            for indices in micro_batches(window, BATCH_SIZE[setting.scale], lengths):
                chosen = [examples[index] for index in indices]
                loss = distillation_loss(student.model, assistant.model, student.encoder, chosen, weights, counts).total
                loss.backward()
                sums += float(loss)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return sums

    return run


def _check_equal(setting: Setting, models: Sequence[LoadedModel], plain: Epoch) -> None:
    """Both do the same work: equal losses without dropout, or the comparison would mean nothing."""
    dropouts = [part for model in models for part in model.model.modules() if isinstance(part, torch.nn.Dropout)]
    shares = [module.p for module in dropouts]
    for module in dropouts:
        module.p = 0.0
    mine, wanted = ours(setting, dropout=False)["loss"], plain()
    if not math.isclose(mine, wanted, rel_tol=1e-4, abs_tol=1e-5):
        raise ValueError(f"the loss is {mine}, as written {wanted}: the speeds can't be compared")
    for module, share in zip(dropouts, shares, strict=True):
        module.p = share


def _peak(form: str, scale: Scale, folder: Path, posts: int, taken: int) -> None:
    """Print the peak of memory: of our form that of its workers and, where it has some, of the one that launched."""
    setting = Setting(scale, folder, posts)
    if form == "ours":
        before = setting.cluster.group_size(gpus=0, threads=torch.get_num_threads(), most=WINDOW[scale])
        peak = ours(setting, taken)["peak"] + (own_peak_mebibytes() if before > 1 else 0)
    else:
        student = setting.role("student")
        epoch = _as_written(setting, student, setting.role("assistant"), setting.examples(student)[:taken])
        for _ in range(2):
            epoch()
        peak = own_peak_mebibytes()
    print(json.dumps({"peak_mebibytes": peak}))


if __name__ == "__main__":
    _peak(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
