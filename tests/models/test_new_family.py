"""The worked example of docs/new_family.md, executed as it stands there."""

import re
import shutil
import types
from pathlib import Path

import pytest
import torch

from mulcot_rd.config import ProjectConfigLoader
from mulcot_rd.models import FAMILIES, BackboneParameters, attach_adapter, load_backbone
from mulcot_rd.models.checkpoint import prepare_checkpoint
from mulcot_rd.models.forward import base_model
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.parameters import RunParameters
from mulcot_rd.planning import model_shape
from mulcot_rd.prompts import TASKS
from mulcot_rd.training.batches import collate, make_example
from mulcot_rd.training.expansion import teacher_rows
from mulcot_rd.training.forward import output_head, target_states
from mulcot_rd.training.parameters import ModelParameters

ROOT = Path(__file__).parents[2]


def _block(language: str) -> str:
    page = (ROOT / "docs" / "new_family.md").read_text(encoding="utf-8")
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return block


@pytest.fixture(scope="module")
def parameters(tmp_path_factory):
    """The project's configuration with the page's, for architecture 8."""
    conf = tmp_path_factory.mktemp("project") / "conf"
    shutil.copytree(ROOT / "conf" / "base", conf / "base")
    (conf / "local").mkdir()
    (conf / "base" / "parameters_llava.yml").write_text(_block("yaml"), encoding="utf-8")

    def load(**runtime):
        loader = ProjectConfigLoader(
            conf_source=str(conf),
            base_env="base",
            default_run_env="local",
            runtime_params={"arch": 8, **runtime},
            merge_strategy={"parameters": "soft"},
        )
        return loader["parameters"]

    return load


@pytest.fixture
def family(monkeypatch):
    """The page's family, as if its module lay in its folder."""
    module = types.ModuleType("mulcot_rd.models.families.llava")
    exec(compile(_block("python"), "docs/new_family.md", "exec"), module.__dict__)
    monkeypatch.setitem(FAMILIES, module.FAMILY.name, module.FAMILY)
    return module.FAMILY


@pytest.mark.parametrize("scale", ["tiny", "full"])
def test_the_configuration_is_an_architecture(parameters, family, scale):
    chosen = parameters(scale=scale)
    assert RunParameters(**chosen["run_settings"]).name == f"arch8-{scale}-full"
    assert chosen["teacher"]["model"] == "gpt-4o-mini"
    for role in ("assistant", "student"):
        backbone = BackboneParameters(**chosen[f"{role}_backbone"])
        assert backbone.family == family.name
        assert (backbone.model is None) == (scale == "tiny")


def test_a_dry_run_knows_how_many_positions_an_image_takes(parameters, family):
    for role in ("assistant", "student"):
        group = ModelParameters(**parameters(scale="tiny")[role])
        found = model_shape(group.backbone, group.inputs)
        assert (found.image_tokens, found.patches) == (16, 16)


def test_the_family_trains_as_the_others_do(parameters, family, posts, reasonings, plain_logits, tmp_path):
    """One pass over both branches equals plain passes, and stored features stand for the pixels."""
    backbone = BackboneParameters(**parameters(scale="tiny")["student_backbone"])
    checkpoint = prepare_checkpoint(backbone, posts, reasonings, vocabulary_size=500, seed=1, models=tmp_path)
    loaded = load_backbone(backbone, checkpoint["location"])
    model = attach_adapter(loaded.model, backbone.adapter, seed=2).eval()
    assert {name for name, p in model.named_parameters() if p.requires_grad and "vision_tower" in name}
    encoder = InputEncoder(loaded.family, loaded.processor, 56)
    by_id = {post.id: post for post in posts}
    examples = [make_example(row, by_id[row.post_id], encoder, TASKS) for row in teacher_rows(reasonings)]
    batch = collate(examples, encoder)
    with torch.no_grad():
        head = output_head(model)
        ours = {task: head.logits(states) for task, states in target_states(model, batch).items()}
        for task in TASKS:
            plain = []
            for example in examples:
                suffix, target = example.suffixes[task], example.targets[task]
                logits = plain_logits(model, encoder, example.prefix, suffix + target, example.image)
                plain.append(logits[len(suffix) - 1 : -1])
            torch.testing.assert_close(ours[task], torch.cat(plain), rtol=1e-4, atol=1e-4)
        batch.images.update(family.encode_images(base_model(model), batch.images))
        del batch.images["pixel_values"]
        recalled = {task: head.logits(states) for task, states in target_states(model, batch).items()}
    for task in TASKS:
        torch.testing.assert_close(ours[task], recalled[task], rtol=1e-4, atol=1e-4)
