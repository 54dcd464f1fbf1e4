"""The likeliest token by way of eight bits is that of the whole product."""

from types import SimpleNamespace

import pytest
import torch

from mulcot_rd.generation.head import Head, _screens

HIDDEN, COLUMNS, SURPLUS = 48, 1000, 24


def _heads(weight):
    module = torch.nn.Linear(weight.shape[1], len(weight), bias=False)
    module.weight.data = weight
    base = SimpleNamespace(lm_head=module.requires_grad_(False))
    return Head(base, COLUMNS, screened=True), Head(base, COLUMNS, screened=False)


def _weight(seed=0):
    return torch.randn(COLUMNS + SURPLUS, HIDDEN, generator=torch.Generator().manual_seed(seed))


def _states(rows, seed=1):
    return torch.randn(rows, HIDDEN, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", [1, 7, 300])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_same_tokens_come_out(rows, scale):
    screened, plain = _heads(_weight() * scale)
    states = _states(rows)
    assert screened._screen.likeliest(states) is not None
    assert torch.equal(screened.likeliest(states), plain.likeliest(states))


@pytest.mark.parametrize("hidden", [8, 256])
def test_columns_and_states_of_very_different_lengths_are_no_trouble(hidden):
    generator = torch.Generator().manual_seed(4)

    def drawn(rows):
        return torch.randn(rows, hidden, generator=generator) * torch.randn(rows, 1, generator=generator).exp()

    screened, plain = _heads(drawn(COLUMNS + SURPLUS))
    states = drawn(64)
    assert torch.equal(screened._screen.likeliest(states), plain.likeliest(states))


def test_a_screen_that_never_helps_is_given_up():
    # One number of each column is so large that eight bits leave nothing of the others.
    weight = _weight()
    weight[:, 0] = 1e6
    states = _states(3)
    states[:, 0] = 0.0
    screened, plain = _heads(weight)
    for _ in range(10):
        assert torch.equal(screened.likeliest(states), plain.likeliest(states))
    assert screened._screen is None


def test_tokens_that_eight_bits_cannot_tell_apart_are_told_apart():
    """Columns that are the same in eight bits: which one is greatest only the whole product knows."""
    weight = torch.ones(COLUMNS + SURPLUS, HIDDEN) * 0.5
    weight[17] += 1e-6
    weight[900] += 2e-6
    states = torch.ones(3, HIDDEN)
    screened, plain = _heads(weight)
    # All columns may be the greatest: then no screen helps, and the whole product is computed.
    assert screened._screen.likeliest(states) is None
    assert screened.likeliest(states).tolist() == plain.likeliest(states).tolist() == [900] * 3
    weight[: COLUMNS - 200] *= 0.9
    weight[20:800] *= 0.1
    weight[800:890] *= 0.1
    weight[905:] *= 0.1
    screened, plain = _heads(weight)
    assert screened._screen.likeliest(states).tolist() == plain.likeliest(states).tolist() == [900] * 3


def test_of_equal_tokens_the_first_is_taken():
    weight = _weight()
    weight[400] = weight[600] = 3 * _states(1)[0]
    screened, _ = _heads(weight)
    assert screened._screen.likeliest(_states(1)).tolist() == [400]


def test_columns_without_a_token_are_never_chosen():
    weight = -_states(1).abs().expand(COLUMNS + SURPLUS, HIDDEN).clone()
    weight[:COLUMNS] -= _weight()[:COLUMNS].abs()
    weight[COLUMNS:] = 5.0
    states = _states(4).abs()
    screened, plain = _heads(weight)
    found = screened.likeliest(states)
    # All products are below zero, where the room beyond the last column has zeros.
    assert plain.logits(states).max() < 0
    assert torch.equal(found, plain.likeliest(states))
    assert found.max() < COLUMNS


def test_states_that_are_no_numbers_are_left_to_the_head():
    screened, _ = _heads(_weight())
    assert screened._screen.likeliest(torch.full((2, HIDDEN), float("nan"))) is None


def test_only_large_float32_heads_on_a_processor_are_screened(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_vnni": True})
    large = torch.nn.Linear(1024, 8192, bias=False)
    assert _screens(large)
    assert not _screens(torch.nn.Linear(1024, 8191, bias=False))
    assert not _screens(torch.nn.Linear(1024, 8192, bias=True))
    assert not _screens(large.bfloat16())
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {})
    assert not _screens(large.float())
