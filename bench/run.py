"""Benchmarks against the method as written, in one run; results go to ``bench/results/bench.json`` and the screen.

The models are tiny and random: the figures compare two ways of doing the same work on this machine, and say nothing
about the paper's models.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from as_written import distillation_loss
from mulcot_rd.config import ProjectConfigLoader
from mulcot_rd.generation.expansion import teacher_rows
from mulcot_rd.ingest import IngestParameters, read_posts
from mulcot_rd.models import BackboneParameters
from mulcot_rd.models.prepare import prepare_backbone
from mulcot_rd.prompts import TASKS
from mulcot_rd.teacher import TeacherParameters, annotate
from mulcot_rd.training.batches import collate, make_example
from mulcot_rd.training.forward import head_logits, target_states
from mulcot_rd.training.objective import StudentLossWeights, windowed_student_loss
from mulcot_rd.training.roles import start_role
from mulcot_rd.training.soft_labels import SoftLabelParameters, SoftLabels, write_soft_labels

ROOT = Path(__file__).parents[1]
BATCH = 8


def main() -> None:
    """Run, print a table, write the JSON."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repetitions", type=int, default=5, help="alternating repetitions of each form")
    arguments.add_argument("--posts", type=int, default=32, help="training posts of the shipped sample")
    options = arguments.parse_args()
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as scratch:
        rows = [*student_training(Path(scratch), options.posts, options.repetitions)]
    results = ROOT / "bench" / "results"
    results.mkdir(exist_ok=True)
    (results / "bench.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print("| name | scale | ours | reference | reference_name | ratio | unit | repetitions |")
    print("| --- | --- | ---: | ---: | --- | ---: | --- | ---: |")
    for row in rows:
        cells = [f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()]
        print("| " + " | ".join(cells) + " |")


def student_training(scratch: Path, posts: int, repetitions: int) -> list[dict]:
    """Training samples a second, a sample being one row with both tasks, forward and backward."""
    parameters = ProjectConfigLoader(conf_source=str(ROOT / "conf"), base_env="base", default_run_env="base")[
        "parameters"
    ]
    train = read_posts("sample", Path("data/01_raw"), IngestParameters(), 42, posts).posts
    train = [post for post in train if post.split == "train"]
    teacher = annotate(train, [], TeacherParameters(), scratch / "ledger.jsonl").reasoning
    size = parameters["inputs"]
    roles = {}
    for name in ("assistant", "student"):
        backbone = BackboneParameters(**parameters[f"{name}_backbone"])
        vocabulary = size["tiny_vocabulary_size"]
        made = prepare_backbone(backbone, train, teacher, vocabulary_size=vocabulary, seed=1, folder=scratch / name)
        roles[name] = start_role(name, backbone, made, image_size=size["image_size"], seed=1)
    student, assistant = roles["student"], roles["assistant"]
    assistant.model.eval()
    by_id = {post.id: post for post in train}
    examples = [make_example(row, by_id[row.post_id], student.encoder, TASKS) for row in teacher_rows(teacher)]
    batches = [list(range(start, min(start + BATCH, len(examples)))) for start in range(0, len(examples), BATCH)]
    weights = StudentLossWeights(vocabulary_size=len(student.encoder.tokenizer))
    folder = scratch / "soft"
    write_soft_labels(assistant.model, assistant.encoder, examples, folder, "bench", SoftLabelParameters())
    stored = SoftLabels(folder)

    def ours(indices: list[int]) -> torch.Tensor:
        batch = collate([examples[index] for index in indices], student.encoder)
        logits = head_logits(student.model, target_states(student.model, batch))
        taught = stored.logits(indices, examples, torch.device("cpu"))
        counts = {task: len(ids) for task, ids in batch.targets.items()}
        return windowed_student_loss(logits, batch.targets, taught, weights, counts).total

    def plain(indices: list[int]) -> torch.Tensor:
        rows = [examples[index] for index in indices]
        return distillation_loss(student.model, assistant.model, student.encoder, rows, weights).total

    # Both do the same work: equal losses, or the comparison would mean nothing.
    torch.testing.assert_close(ours(batches[0]), plain(batches[0]), rtol=1e-4, atol=1e-4)
    fast, slow = alternate([lambda: epoch(ours, batches, student), lambda: epoch(plain, batches, student)], repetitions)
    return [
        {
            "name": "student_training_samples_per_s",
            "scale": "tiny",
            "ours": len(examples) / fast,
            "reference": len(examples) / slow,
            "reference_name": "as written: two passes a sample, assistant live, whole-sequence logits",
            "ratio": slow / fast,
            "unit": "samples/s",
            "repetitions": repetitions,
        }
    ]


def epoch(loss: Callable[[list[int]], torch.Tensor], batches: list[list[int]], student: object) -> None:
    """Forward and backward over all batches."""
    for indices in batches:
        loss(indices).backward()
    student.model.zero_grad(set_to_none=True)


def alternate(forms: list[Callable[[], None]], repetitions: int) -> list[float]:
    """Median seconds of each form, run in turns after one untimed round."""
    seconds: list[list[float]] = [[] for _ in forms]
    for repetition in range(repetitions + 1):
        for number, form in enumerate(forms):
            started = time.perf_counter()
            form()
            if repetition:
                seconds[number].append(time.perf_counter() - started)
    return [statistics.median(times) for times in seconds]


if __name__ == "__main__":
    main()
