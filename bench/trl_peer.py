"""TRL's trainer for vision-language distillation beside ours: the tiny models, the same posts, prompts and answers.

It needs an environment of its own, outside this project, which sees this project's packages::

    python3 -m venv trl && trl/bin/pip install torch==2.13.0
    trl/bin/pip install -r requirements.lock trl datasets
    python bench/run.py --trl trl/bin/python

What differs is said in ``bench/peers/run_trl.py``. A prompt and its answer are joined as text there, and token ids are
random at real_vocab scale, so it is compared at tiny scale alone.
"""

import json
import os
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mulcot_rd.models.loaded import LoadedModel
from mulcot_rd.prompts import TASKS
from mulcot_rd.reasoning import write, write_label
from settings import BATCH_SIZE, ROOT, WINDOW, Setting
from timing import alternate_timed, row
from training import ours


def row_of(scratch: Path, repetitions: int, python: str) -> dict:
    """Training rows a second, ours and TRL's, one after the other."""
    setting = Setting("tiny", scratch / "trl")
    student, assistant = setting.role("student"), setting.role("assistant")
    examples = setting.examples(student)
    setting.soft_labels(assistant, examples)
    (seconds,) = alternate_timed([lambda: ours(setting)["seconds"]], repetitions)
    found = _trl(setting, student, repetitions, python)
    name = f"TRL {found['version']}, GOLDTrainer, assistant live, soft labels alone"
    speeds = (len(examples) / seconds, len(examples) / statistics.median(found["seconds"]))
    return row("student_training_samples_per_s", "tiny", *speeds, name, "samples/s", repetitions)


def _trl(setting: Setting, student: LoadedModel, repetitions: int, python: str) -> dict:
    told = setting.folder / "trl.json"
    # Two of TRL's rows are one of ours: its micro-batches have as many rows, its windows twice as many.
    batch_size = BATCH_SIZE["tiny"]
    told.write_text(
        json.dumps(
            {
                "folder": str(setting.folder / "trl"),
                "roles": {
                    name: {"folder": str(setting.folder / name), "backbone": setting.backbone(name).model_dump()}
                    for name in ("student", "assistant")
                },
                "image_size": setting.image_size,
                "rows": _texts(setting, student),
                "temperature": setting.weights(student).temperature,
                "batch_size": batch_size,
                "gradient_accumulation_steps": len(TASKS) * WINDOW["tiny"] // batch_size,
                "epochs": repetitions + 1,
            }
        ),
        encoding="utf-8",
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [python, str(ROOT / "bench" / "peers" / "run_trl.py"), str(told)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _texts(setting: Setting, student: LoadedModel) -> Sequence[dict[str, str]]:
    """The training rows as text: an image, a prompt and an answer for each task."""
    posts = {post.id: post for post in setting.posts}
    return [
        {
            "image": posts[line.post_id].image,
            "prompt": student.encoder.turn(posts[line.post_id], task),
            "answer": write_label(posts[line.post_id].label) if task == "label" else write(line.reasoning),
        }
        for line in setting.training_rows
        for task in TASKS
    ]
