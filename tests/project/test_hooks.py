"""Hooks: workers are got ready where processes will share the work and nowhere else; a run has one writer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.runner import ParallelRunner, SequentialRunner, ThreadRunner

from mulcot_rd import hooks
from mulcot_rd.distributed import local
from mulcot_rd.errors import UserError
from mulcot_rd.hooks import prepare_workers, take_student_of
from mulcot_rd.parameters import RunParameters
from mulcot_rd.pipeline_registry import stage
from mulcot_rd.run_lock import RunLock
from mulcot_rd.training.parameters import ModelParameters
from tests.project.conftest import load as _load


@pytest.fixture
def prepared(monkeypatch):
    """What is asked to be imported, on a processor of two threads without a GPU."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    asked = []
    monkeypatch.setattr(local, "prepare", asked.append)
    return asked


def _catalog(**given):
    parameters = _load(**given)["parameters"]

    class Catalog:
        def load(self, name):
            group = parameters[name.removeprefix("params:")]
            return RunParameters(**group) if name == "params:run_settings" else ModelParameters(**group)

    return Catalog()


@pytest.mark.parametrize(
    ("pipelines", "given", "times"),
    [
        (["assistant_training"], {}, 1),
        (["evaluation"], {}, 1),
        (["data_preparation", "assistant_training", "student_distillation"], {}, 1),
        # Over before a worker has started, unless workers are asked for.
        (["assistant_training"], {"limit": 8}, 0),
        (["assistant_training"], {"limit": 8, "cluster": {"workers": 2}}, 1),
        # A student has two rows a post.
        (["student_distillation"], {"limit": 150}, 1),
        (["assistant_training"], {"cluster": {"workers": 1}}, 0),
        (["assistant_training"], {"engine": "ray"}, 0),
        # On a processor, the paper's models are asked and trained by one process.
        (["assistant_training", "student_distillation"], {"scale": "full"}, 0),
        (["data_preparation", "reporting"], {}, 0),
    ],
)
def test_workers_are_prepared_for_work_that_they_share(prepared, pipelines, given, times):
    prepare_workers(sum(map(stage, pipelines), start=Pipeline([])), _catalog(**given))
    assert len(prepared) == times


def test_on_several_gpus_workers_are_prepared_at_full_size(prepared, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    prepare_workers(stage("assistant_training"), _catalog(scale="full"))
    assert len(prepared) == 1


@pytest.mark.parametrize("runner", [ThreadRunner, ParallelRunner])
def test_a_runner_of_several_nodes_at_once_is_refused(runner):
    """Nodes at once draw from one random generator: the same parameters would give another student."""
    with pytest.raises(UserError, match=r"one node at a time.* leave --runner out"):
        hooks.ProjectHooks().before_pipeline_run({"runner": str(runner())}, stage("assistant_training"), _catalog())


def test_a_run_goes_to_the_projects_folder_and_prepares_before_its_first_node(prepared, monkeypatch, tmp_path):
    for check in ("fill_optional_inputs", "check_inputs", "check_backbones"):
        monkeypatch.setattr(hooks, check, lambda *_: None)
    monkeypatch.chdir("/")
    run = {"runner": str(SequentialRunner()), "project_path": tmp_path.as_posix()}
    hooks.ProjectHooks().before_pipeline_run(run, stage("assistant_training"), _catalog())
    assert len(prepared) == 1
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize(
    ("pipelines", "run", "words"),
    [
        (["evaluation"], "arch4-tiny-full", "is the name of a run with a student of its own"),
        (["evaluation"], "trained", "run=trained is the name of a run with a student of its own"),
        (["evaluation"], "from_there", r"student_adapter .* is missing: name a run that is trained, as DATASET/RUN"),
        (["student_distillation", "evaluation"], "from_there", "trains none: kedro run --pipelines data_preparation"),
        (["teacher_annotation"], "from_there", "trains none"),
    ],
)
def test_the_student_of_another_run_is_evaluated_and_nothing_else(tmp_path, pipelines, run, words):
    given = {"run": run, "student_run": "there/arch4-tiny-full", "data_root": str(tmp_path)}
    configuration = _load(**given)
    (tmp_path / "06_models" / "sample" / "trained" / "student").mkdir(parents=True)
    settings = RunParameters(**configuration["parameters"]["run_settings"])
    catalog = DataCatalog.from_config(configuration["catalog"], {"results": {}, "openai": {}})
    with pytest.raises(UserError, match=rf"^student_run=there/arch4-tiny-full.*{words}"):
        take_student_of(settings, sum(map(stage, pipelines), start=Pipeline([])), catalog)


HOLD = """
import sys, time
from pathlib import Path
from mulcot_rd.run_lock import RunLock
lock = RunLock()
lock.take(Path(sys.argv[1]), "a run")
print("held", flush=True)
time.sleep(60)
"""


def test_a_runs_lock_names_its_holder_and_ends_with_it(tmp_path):
    path = tmp_path / ".lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"^a run is being written by process {other.pid} on .* since .*run=NAME"):
            RunLock().take(path, "a run")
        RunLock().take(tmp_path / "another", "another run")
        other.kill()
    mine = RunLock()
    mine.take(path, "a run")
    # The next run in the same process, of the same name or another one, is not kept out by what was left.
    mine.take(path, "a run")
    with pytest.raises(UserError, match=f"process {os.getpid()}"):
        RunLock().take(path, "a run")
    mine.release()
    RunLock().take(path, "a run")


def test_a_second_writer_of_a_run_is_refused_in_one_sentence(project, kedro):
    path = project / "data/05_model_input/sample/mine/.lock"
    path.parent.mkdir(parents=True)
    mine = RunLock()
    mine.take(path, "mine")
    refused = kedro("run", "--pipeline", "data_preparation", "--params", "run=mine")
    assert refused.returncode != 0
    (said,) = [line for line in refused.stderr.splitlines() if line.startswith("Error: ")]
    assert said.startswith(f"Error: run mine on sample is being written by process {os.getpid()} on ")
    assert not (project / "data/03_primary").exists()
    assert kedro("run", "--pipeline", "data_preparation", "--params", "run=other").returncode == 0
    mine.release()
    assert kedro("run", "--pipeline", "data_preparation", "--params", "run=mine").returncode == 0
