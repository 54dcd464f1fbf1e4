"""Trainings small enough to be run many times, and long enough to be killed in the middle."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.distributed.jobs import cluster

from mulcot_rd.generation import GenerationParameters
from mulcot_rd.kept import Kept
from mulcot_rd.models import AdapterParameters
from mulcot_rd.parameters import InputParameters, MethodParameters
from mulcot_rd.prompts import TASKS
from mulcot_rd.schema import InputView
from mulcot_rd.training.expansion import teacher_rows
from mulcot_rd.training.job import TrainingJob
from mulcot_rd.training.parameters import (
    AssistantTrainingParameters,
    ModelParameters,
    OptimisationParameters,
    StudentTrainingParameters,
    ValidationParameters,
)

ROOT = Path(__file__).parents[2]
LORA = AdapterParameters(r=4, lora_alpha=8, lora_dropout=0.1)


@pytest.fixture(scope="session", params=["flan_t5", "qwen2_5_vl", "qwen3_vl"])
def family_name(request) -> str:
    """The families of the paper."""
    return request.param


@pytest.fixture(scope="session")
def all_posts(posts):
    """The posts, which are those of the dev split too."""
    return [*posts, *(post.model_copy(update={"id": f"dev-{post.id}", "split": "dev"}) for post in posts)]


@pytest.fixture(scope="session")
def parameters(backbone_parameters):
    """Makes the parameters of assistant or student for so many workers: three micro-batches a step, dropout on."""

    def make(name, workers, epochs=2, lora=False, **given):
        optimisation = OptimisationParameters(
            epochs=epochs,
            batch_size=1,
            gradient_accumulation_steps=3,
            learning_rate=1e-2,
            checkpoint_minutes=0,
            validation=ValidationParameters(max_new_tokens=8, max_label_tokens=4),
        )
        kind = AssistantTrainingParameters if name == "assistant" else StudentTrainingParameters
        backbone = backbone_parameters.model_copy(update={"adapter": LORA} if lora else {})
        return ModelParameters(
            backbone=backbone,
            training=kind(optimisation=optimisation),
            generation=GenerationParameters(batch_size=2, max_new_tokens=8, max_label_tokens=4, max_retries=1),
            inputs=InputParameters(image_size=56),
            method=MethodParameters(
                input_view=InputView(), tasks=list(TASKS), assistant=True, trained=True, task_weights={}
            ),
            cluster=cluster(workers, **given),
            seed=1,
        )

    return make


@pytest.fixture(scope="session")
def job_file(all_posts, reasonings, checkpoint, parameters):
    """Writes the job of an assistant's training below a folder."""

    def write(folder, workers=2, **given):
        job = TrainingJob(
            name="assistant",
            parameters=parameters("assistant", workers, **given),
            posts=all_posts,
            rows=teacher_rows(reasonings),
            soft_labels=None,
            checkpoint=checkpoint,
            models=folder,
        )
        Kept(folder, "assistant").begin(job.fingerprint, job.made_from)
        path = folder / "job.json"
        path.write_text(job.model_dump_json())
        return path

    return write


@pytest.fixture
def run_job():
    """Runs a job from its file in a process of its own, and kills that once so many steps are done."""

    def run(path, kill_after_steps=None, timeout=240):
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
        with (path.parent / "output").open("w+") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.distributed.jobs", path, path.parent],
                env=environment, stdout=output, stderr=output, cwd=ROOT, start_new_session=True,
            )  # fmt: skip
            end = time.monotonic() + timeout
            while process.poll() is None and time.monotonic() < end:
                states = list(path.parent.glob("work/assistant/*/training/checkpoint/state.json"))
                if kill_after_steps and states and json.loads(states[0].read_text())["step"] >= kill_after_steps:
                    process.kill()
                time.sleep(0.01)
            process.kill()
            process.wait()
            output.seek(0)
            return process, output.read()

    return run
