"""Hooks: what helpers begin from is got ready where processes will share a training, and nowhere else."""

from pathlib import Path

import pytest
import torch

from mulcot_rd import crew
from mulcot_rd.config import ProjectConfigLoader
from mulcot_rd.hooks import prepare_helpers
from mulcot_rd.parameters import RunParameters
from mulcot_rd.pipeline_registry import stage
from mulcot_rd.training.parameters import AssistantTrainingParameters

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def prepared(monkeypatch):
    """What is asked to be imported, on a processor of two threads without a GPU."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked = []
    monkeypatch.setattr(crew, "prepare", asked.append)
    return asked


def _parameters(**given):
    loader = ProjectConfigLoader(
        conf_source=str(CONF), base_env="base", default_run_env="base", runtime_params=given,
        merge_strategy={"parameters": "soft"},
    )["parameters"]  # fmt: skip

    class Catalog:
        def load(self, name):
            return {
                "params:run_settings": RunParameters(**loader["run_settings"]),
                "params:assistant_training": AssistantTrainingParameters(**loader["assistant_training"]),
            }[name]

    return Catalog()


@pytest.mark.parametrize(
    ("pipeline", "given", "times"),
    [
        ("assistant_training", {}, 1),
        # Ends before a helper has started.
        ("assistant_training", {"limit": 8}, 0),
        ("assistant_training", {"limit": 8, "assistant_training": {"optimisation": {"workers": 2}}}, 1),
        ("assistant_training", {"assistant_training": {"optimisation": {"workers": 1}}}, 0),
        # The paper's models are trained by one process.
        ("assistant_training", {"scale": "full"}, 0),
        ("data_preparation", {}, 0),
    ],
)
def test_helpers_are_prepared_for_a_training_that_they_share(prepared, pipeline, given, times):
    prepare_helpers(stage(pipeline), _parameters(**given))
    assert len(prepared) == times
    if times:
        assert "mulcot_rd.training.learner" in prepared[0]


def test_on_a_gpu_nothing_is_prepared(prepared, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    prepare_helpers(stage("assistant_training"), _parameters())
    assert prepared == []
