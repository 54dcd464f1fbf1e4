"""What a prediction costs: measured once for the same model, posts and parameters on the same device."""

import pytest

from mulcot_rd.distributed import ALONE
from mulcot_rd.generation import GenerationParameters
from mulcot_rd.metrics import cost
from mulcot_rd.metrics.cost import CostJob
from mulcot_rd.models import BackboneParameters
from mulcot_rd.models.loaded import StoredModel

PARAMETERS = GenerationParameters(max_new_tokens=8, max_label_tokens=4)


@pytest.fixture
def measure(student, backbone_parameters: BackboneParameters, posts, tmp_path):
    """A function that measures, of what it is given or else always of the same."""

    def measured(weights="these", **other):
        model = StoredModel(name="student", folder=student, backbone=backbone_parameters, identity=weights)
        fields = {"model": model, "posts": posts[:1], "tasks": ["label"], "parameters": PARAMETERS}
        return CostJob(**{**fields, "max_seconds": 1, "folder": tmp_path, **other}).run(ALONE)

    return measured


@pytest.mark.parametrize("family_name", ["qwen3_vl"], indirect=True)
def test_a_cost_is_measured_once(measure, posts, tmp_path, monkeypatch):
    first = measure()
    assert first["prompts"]["label"]["posts"] == 1
    # How many are answered at once has no effect on one greedy answer.
    for other in ({}, {"parameters": PARAMETERS.model_copy(update={"batch_size": 7})}):
        assert measure(**other) == first
    assert len(list(tmp_path.iterdir())) == 1
    longer = PARAMETERS.model_copy(update={"max_label_tokens": 5})
    for other in ({"weights": "others"}, {"posts": posts[1:2]}, {"max_seconds": 2}, {"parameters": longer}):
        assert measure(**other) != first
    monkeypatch.setattr(cost, "device_name", lambda _: "another device")
    assert measure()["device"] == "another device"
    assert len(list(tmp_path.iterdir())) == 6
