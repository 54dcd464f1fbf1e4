"""The vision towers' faster operations: the library's own values and gradients."""

import numpy as np
import pytest
import torch
from torch import nn

from mulcot_rd.models import family_named, load_backbone
from mulcot_rd.models.vision import PatchProduct, chunked_attention

of_qwen = pytest.mark.parametrize("family_name", ["qwen2_5_vl", "qwen3_vl"], indirect=True, scope="session")


@pytest.fixture(scope="module")
def towers(backbone_parameters, prepared):
    """The tower as it is loaded, the library's own, and the processor of their images."""
    family = family_named(backbone_parameters.family)
    loaded = load_backbone(backbone_parameters, prepared["location"])
    plain = family.model_class.from_pretrained(prepared["location"], attn_implementation="sdpa").eval()
    return loaded.model.model.visual, plain.model.visual, loaded.processor


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
    draw = np.random.default_rng(3)
    images = [draw.integers(0, 256, (*side, 3), dtype=np.uint8) for side in sides]
    given = processor.image_processor(images=images, return_tensors="pt")
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


@pytest.mark.parametrize("lengths", [[5], [4, 4, 4], [4, 2, 4, 1, 2], [3, 0, 3]])
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
        PatchProduct(nn.Conv3d(3, 4, (2, 4, 4), stride=(2, 2, 2)))
