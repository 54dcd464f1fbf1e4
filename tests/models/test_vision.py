"""The vision towers' faster operations: the library's own values and gradients."""

import numpy as np
import pytest
import torch
from torch import nn

from mulcot_rd.models import AdapterParameters, attach_adapter, family_named, load_adapter, load_backbone
from mulcot_rd.models.forward import base_model
from mulcot_rd.models.vision import NAME, PatchProduct, chunked_attention

of_qwen = pytest.mark.parametrize("family_name", ["qwen2_5_vl", "qwen3_vl"], indirect=True, scope="session")


@pytest.fixture(scope="module")
def towers(backbone_parameters, prepared):
    """The tower as it is loaded, the library's own, and the processor of their images."""
    family = family_named(backbone_parameters.family)
    loaded = load_backbone(backbone_parameters, prepared["location"])
    plain = family.model_class.from_pretrained(prepared["location"], attn_implementation="sdpa").eval()
    return loaded.model.model.visual, plain.model.visual, loaded.processor


def image_inputs(processor, *sides):
    """A tower's inputs of noise, an image for each (height, width) in pixels."""
    draw = np.random.default_rng(3)
    images = [draw.integers(0, 256, (*side, 3), dtype=np.uint8) for side in sides]
    return processor.image_processor(images=images, return_tensors="pt")


@of_qwen
@pytest.mark.parametrize(
    "sides",
    [
        pytest.param([(56, 56)], id="one image"),
        pytest.param([(64, 64), (64, 64), (64, 64)], id="images of one size"),
        pytest.param([(280, 280), (280, 280)], id="windows cut at the edges"),
        pytest.param([(56, 56), (280, 140), (56, 112), (56, 56)], id="images of several sizes"),
    ],
)
def test_features_and_gradients_are_the_librarys(towers, sides):
    fast, plain, processor = towers
    given = image_inputs(processor, *sides)
    seen = []
    for tower in (fast, plain):
        pixels = given["pixel_values"].clone().requires_grad_()
        tower.zero_grad()
        features = tower(pixels, grid_thw=given["image_grid_thw"]).pooler_output
        (features * torch.linspace(-1, 1, features.shape[1])).sum().backward()
        weights = {name: weight.grad for name, weight in tower.named_parameters() if weight.grad is not None}
        seen.append((features, pixels.grad, weights))
    (own, own_pixels, own_weights), (features, pixels, weights) = seen
    torch.testing.assert_close(own, features, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(own_pixels, pixels, rtol=1e-4, atol=1e-4 * float(pixels.abs().max()))
    assert own_weights.keys() == weights.keys()
    for name, gradient in weights.items():
        torch.testing.assert_close(own_weights[name], gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()))


def is_fast(tower):
    attentions = {block.attn.config._attn_implementation for block in tower.blocks}
    return isinstance(tower.patch_embed.proj, PatchProduct) and attentions == {NAME}


@of_qwen
def test_loaded_towers_are_the_fast_ones(towers):
    fast, plain, _ = towers
    assert is_fast(fast)
    assert not is_fast(plain)


@of_qwen
def test_who_wants_eager_attention_keeps_it(backbone_parameters, prepared):
    parameters = backbone_parameters.model_copy(update={"attention": "eager"})
    tower = load_backbone(parameters, prepared["location"]).model.model.visual
    assert {block.attn.config._attn_implementation for block in tower.blocks} == {"eager"}
    assert isinstance(tower.patch_embed.proj, PatchProduct)


@of_qwen
@pytest.mark.parametrize(
    "adapter",
    [
        pytest.param(AdapterParameters(full=True), id="trained whole"),
        pytest.param(AdapterParameters(dropout=0.0, target_modules=["proj"]), id="low rank on patches too"),
        pytest.param(
            AdapterParameters(dropout=0.0, target_modules=["qkv"], fully_trained_modules=["patch_embed"]),
            id="patches whole",
        ),
    ],
)
def test_a_tower_that_was_trained_comes_back_as_it_was(backbone_parameters, prepared, towers, adapter, tmp_path):
    model = attach_adapter(load_backbone(backbone_parameters, prepared["location"]).model, adapter, 5).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in (parameter for parameter in model.parameters() if parameter.requires_grad):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    model.save_pretrained(tmp_path)
    backbone = load_backbone(backbone_parameters, prepared["location"])
    again = load_adapter(backbone.model, tmp_path, backbone.family)
    _, plain, processor = towers
    given = image_inputs(processor, (64, 64))
    with torch.no_grad():
        kept, loaded, untrained = (
            tower(given["pixel_values"], grid_thw=given["image_grid_thw"]).pooler_output
            for tower in (base_model(model).model.visual, base_model(again).model.visual, plain)
        )
    torch.testing.assert_close(loaded, kept)
    assert not torch.allclose(kept, untrained, atol=1e-3)
    if adapter.full:
        assert is_fast(base_model(again).model.visual)


@of_qwen
def test_half_precision_gives_the_librarys_features_but_for_rounding(backbone_parameters, prepared):
    parameters = backbone_parameters.model_copy(update={"dtype": "bfloat16"})
    loaded = load_backbone(parameters, prepared["location"])
    plain = loaded.family.model_class.from_pretrained(prepared["location"], attn_implementation="sdpa").eval()
    given = image_inputs(loaded.processor, (280, 280), (56, 112))
    with torch.no_grad():
        own, wanted = (
            model.model.visual(given["pixel_values"], grid_thw=given["image_grid_thw"]).pooler_output.float()
            for model in (loaded.model, plain)
        )
    assert float((own - wanted).norm() / wanted.norm()) < 0.03


@of_qwen
def test_the_towers_weights_keep_their_names_and_shapes(towers):
    fast, plain, _ = towers
    own, wanted = fast.state_dict(), plain.state_dict()
    assert {name: value.shape for name, value in own.items()} == {name: value.shape for name, value in wanted.items()}


@of_qwen
def test_an_image_never_sees_another(towers):
    fast, _, processor = towers
    draw = np.random.default_rng(4)
    one, other, third = (draw.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(3))
    first, second = (
        processor.image_processor(images=pair, return_tensors="pt") for pair in ([one, other], [one, third])
    )
    with torch.no_grad():
        a, b = (
            fast(given["pixel_values"], grid_thw=given["image_grid_thw"]).pooler_output for given in (first, second)
        )
    half = len(a) // 2
    torch.testing.assert_close(a[:half], b[:half])
    assert not torch.allclose(a[half:], b[half:])


@pytest.mark.parametrize("lengths", [[5], [4, 4, 4], [4, 2, 4, 1, 2], [3, 0, 3], [1, 1], [2, 5, 5, 2]])
def test_chunks_are_attended_to_one_by_one(lengths):
    generator = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(1, 2, sum(lengths), 8, generator=generator) for _ in range(3))
    ends = torch.tensor([0, *lengths]).cumsum(0)
    found, _ = chunked_attention(nn.Module(), query, key, value, None, cu_seq_lens_q=ends, scaling=0.3)
    wanted = [
        nn.functional.scaled_dot_product_attention(*chunk, scale=0.3)
        for chunk in zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True)
    ]
    torch.testing.assert_close(found, torch.cat(wanted, dim=2).transpose(1, 2))


def test_a_convolution_whose_patches_overlap_is_refused():
    with pytest.raises(ValueError, match="side by side"):
        PatchProduct.of(nn.Conv3d(3, 4, (2, 4, 4), stride=(2, 2, 2)))


def test_tokens_that_no_chunk_holds_are_an_error():
    query, key, value = (torch.zeros(1, 2, 8, 4) for _ in range(3))
    for ends in ([0, 3, 6], [0, 4, 7]):
        with pytest.raises(ValueError, match="do not make up"):
            chunked_attention(nn.Module(), query, key, value, None, cu_seq_lens_q=torch.tensor(ends), scaling=1.0)
