"""Hooks: what helpers begin from is got ready where processes will share a training, and nowhere else."""

import pytest
import torch
from kedro.pipeline import Pipeline
from kedro.runner import ParallelRunner, SequentialRunner

from mulcot_rd import crew, hooks
from mulcot_rd.hooks import prepare_helpers
from mulcot_rd.parameters import MethodParameters, RunParameters
from mulcot_rd.pipeline_registry import stage
from mulcot_rd.training.parameters import AssistantTrainingParameters, StudentTrainingParameters
from tests.project.conftest import load as _load


@pytest.fixture
def prepared(monkeypatch):
    """What is asked to be imported, on a processor of two threads without a GPU."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked = []
    monkeypatch.setattr(crew, "prepare", asked.append)
    return asked


def _catalog(**given):
    parameters = _load(**given)["parameters"]

    class Catalog:
        def load(self, name):
            return {
                "params:run_settings": RunParameters(**parameters["run_settings"]),
                "params:method": MethodParameters(**parameters["method"]),
                "params:assistant_training": AssistantTrainingParameters(**parameters["assistant_training"]),
                "params:student_training": StudentTrainingParameters(**parameters["student_training"]),
            }[name]

    return Catalog()


def _workers(count):
    return {"assistant_training": {"optimisation": {"workers": count}}}


@pytest.mark.parametrize(
    ("pipelines", "given", "times"),
    [
        (["assistant_training"], {}, 1),
        (["student_distillation"], {}, 1),
        (["data_preparation", "assistant_training", "student_distillation"], {}, 1),
        # Over before a helper has started, unless helpers are asked for.
        (["assistant_training"], {"limit": 8}, 0),
        (["assistant_training"], {"limit": 8, **_workers(2)}, 1),
        # A student has two rows a post, so that it may be worth helpers where its assistant is not.
        (["assistant_training"], {"limit": 150}, 0),
        (["student_distillation"], {"limit": 150}, 1),
        (["assistant_training"], _workers(1), 0),
        # The paper's models are trained by one process, and without training there is nothing to share.
        (["assistant_training", "student_distillation"], {"scale": "full"}, 0),
        (["assistant_training", "student_distillation"], {"variant": "zero_shot"}, 0),
        (["data_preparation", "reporting"], {}, 0),
    ],
)
def test_helpers_are_prepared_for_a_training_that_they_share(prepared, pipelines, given, times):
    prepare_helpers(sum(map(stage, pipelines), start=Pipeline([])), _catalog(**given))
    assert len(prepared) == times
    if times:
        assert "mulcot_rd.training.learner" in prepared[0]


def test_on_a_gpu_nothing_is_prepared(prepared, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    prepare_helpers(stage("assistant_training"), _catalog())
    assert prepared == []


@pytest.mark.parametrize(("runner", "times"), [(SequentialRunner, 1), (ParallelRunner, 0)])
def test_a_run_prepares_them_before_its_first_node_but_for_a_runner_that_forks(prepared, monkeypatch, runner, times):
    for check in ("fill_optional_inputs", "check_inputs", "check_backbones"):
        monkeypatch.setattr(hooks, check, lambda *_: None)
    hooks.ProjectHooks().before_pipeline_run({"runner": str(runner())}, stage("assistant_training"), _catalog())
    assert len(prepared) == times
