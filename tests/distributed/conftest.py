"""Trainings small enough to be run many times, and long enough to be killed in the middle."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.distributed.jobs import cluster

from mulcot_rd.distributed.local import prepare
from mulcot_rd.generation import AnsweringJob, GenerationParameters
from mulcot_rd.kept import Kept
from mulcot_rd.models import AdapterParameters
from mulcot_rd.models.loaded import StoredModel
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
from mulcot_rd.training.soft_label_writing import assistant_soft_labels
from mulcot_rd.training.soft_labels import SoftLabelParameters
from mulcot_rd.training.train import train_model

ROOT = Path(__file__).parents[2]
LORA = AdapterParameters(r=4, lora_alpha=8, lora_dropout=0.1)


@pytest.fixture(scope="session", autouse=True)
def _imported_once():
    """Workers are forked from a process that has imported the largest of the jobs, whichever test comes first."""
    prepare(["tests.distributed.model_jobs"])


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
                [sys.executable, "-m", "tests.distributed.model_jobs", path, path.parent],
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


@pytest.fixture(scope="session")
def train(all_posts, reasonings, checkpoint, parameters):
    """Trains assistant or student in a folder."""

    def run(name, folder, workers, soft_labels=None, **given):
        own = parameters(name, workers, **given)
        return train_model(name, own, all_posts, teacher_rows(reasonings), soft_labels, checkpoint, folder)

    return run


@pytest.fixture(scope="session")
def assistant(train, tmp_path_factory):
    """An assistant that one process trained."""
    return train("assistant", tmp_path_factory.mktemp("alone"), 1)


@pytest.fixture(scope="session")
def ask(assistant, parameters, all_posts):
    """Lets the assistant answer in a folder, with so many workers."""

    def run(folder, workers, environment=None, kind=AnsweringJob):
        own = parameters("assistant", workers, environment=environment or {})
        asked = {"tasks": list(TASKS), "parameters": own.generation, "seed": 1, "scored": all_posts}
        model = StoredModel.of(assistant, own.backbone)
        return kind(model=model, posts=all_posts, folder=folder, **asked).ask(own.cluster)

    return run


@pytest.fixture(scope="session")
def label(assistant, parameters, all_posts, reasonings):
    """Writes the assistant's soft labels in a folder, with so many workers."""

    def run(folder, workers, environment=None):
        own = parameters("assistant", workers, environment=environment or {})
        return assistant_soft_labels(
            StoredModel.of(assistant, own.backbone), all_posts, teacher_rows(reasonings), list(TASKS),
            SoftLabelParameters(rows_per_shard=2, batch_size=2),
            kept=Kept(folder, "soft_labels"), cluster=own.cluster,
        )  # fmt: skip

    return run


@pytest.fixture(scope="session")
def soft_labels(label, tmp_path_factory):
    """Those that one process wrote."""
    return label(tmp_path_factory.mktemp("soft"), 1)
