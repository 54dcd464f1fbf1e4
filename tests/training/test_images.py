"""Stored vision features: frozen towers see each image once, and nothing else changes."""

import pytest
import torch

from mulcot_rd.images import ImageError
from mulcot_rd.models import AdapterParameters
from mulcot_rd.models.forward import base_model
from mulcot_rd.models.loaded import fresh_model
from mulcot_rd.training.batches import collate
from mulcot_rd.training.forward import target_states
from mulcot_rd.training.images import ImageStore


def _frozen(role):
    """The same model with nothing trained that sees the image."""
    for module in role.encoder.family.vision_modules(base_model(role.model)):
        module.requires_grad_(False)
    return role


def test_states_are_those_of_images_prepared_afresh(role, examples, tmp_path):
    stored = ImageStore(tmp_path, role.encoder, role.model, "weights")
    stored.prepare([example.image for example in examples])
    with torch.no_grad():
        plain = target_states(role.model, collate(examples, role.encoder))
        for _ in range(2):
            kept = target_states(role.model, collate(examples, role.encoder, stored))
            for task, states in plain.items():
                torch.testing.assert_close(kept[task], states, rtol=0, atol=0)
    # Patches for a tower that is trained are never written.
    assert not list(tmp_path.iterdir())


def test_a_frozen_tower_sees_each_image_once_and_changes_no_value_and_no_gradient(role, examples, tmp_path):
    _frozen(role)
    if not role.encoder.family.vision_modules(base_model(role.model)):
        pytest.skip("the family reads text alone")
    calls = []
    for module in role.encoder.family.vision_modules(base_model(role.model)):
        module.register_forward_pre_hook(lambda *_: calls.append(1))
    paths = [example.image for example in examples]
    stored = ImageStore(tmp_path, role.encoder, role.model, "weights")
    stored.prepare([*paths, *paths])
    ImageStore(tmp_path, role.encoder, role.model, "weights").prepare(paths)
    seen = len(calls)
    trained = [parameter for parameter in role.model.parameters() if parameter.requires_grad]

    def gradients(batch):
        states = target_states(role.model, batch)
        total = sum((values * torch.linspace(-1, 1, values.shape[1])).sum() for values in states.values())
        return total, torch.autograd.grad(total, trained, allow_unused=True)

    kept, kept_gradients = gradients(collate(examples, role.encoder, stored))
    assert len(calls) == seen
    plain, plain_gradients = gradients(collate(examples, role.encoder))
    assert len(calls) > seen
    torch.testing.assert_close(kept, plain, rtol=1e-5, atol=1e-4)
    for mine, theirs in zip(kept_gradients, plain_gradients, strict=True):
        if theirs is not None:
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_features_of_other_weights_are_not_taken(role, examples, tmp_path):
    _frozen(role)
    paths = [example.image for example in examples]
    ImageStore(tmp_path, role.encoder, role.model, "weights").prepare(paths)
    before = len(list(tmp_path.iterdir()))
    ImageStore(tmp_path, role.encoder, role.model, "other weights").prepare(paths)
    assert len(list(tmp_path.iterdir())) == 2 * before


def test_the_papers_adapter_leaves_the_tower_of_qwen3_vl_frozen_and_not_that_of_qwen2_5_vl(
    backbone_parameters, checkpoint, family_name
):
    if family_name not in ("qwen2_5_vl", "qwen3_vl"):
        pytest.skip("the paper's adapters are those of the Qwen families")
    parameters = backbone_parameters.model_copy(update={"adapter": AdapterParameters(lora_dropout=0.0)})
    role = fresh_model("assistant", parameters, checkpoint, image_size=56, seed=3)
    assert role.encoder.family.trains_vision(base_model(role.model)) == (family_name == "qwen2_5_vl")


def test_a_missing_image_is_named(role, tmp_path):
    if role.encoder.family.image_token is None:
        pytest.skip("the family reads text alone")
    with pytest.raises(ImageError, match=r"nowhere\.png"):
        ImageStore(tmp_path, role.encoder, role.model, "weights")([str(tmp_path / "nowhere.png")])
