"""The likeliest token by way of eight bits is that of the whole product."""

from types import SimpleNamespace

import pytest
import torch

from mulcot_rd.generation import head
from mulcot_rd.generation.head import Head, _in_eight_bits, _lengths, _Screen, _screens, multiplies_eight_bits

HIDDEN, COLUMNS, SURPLUS = 48, 1000, 24


needs_products = pytest.mark.skipif(
    not multiplies_eight_bits(), reason="this processor has no exact products of eight-bit numbers (AVX-512 VNNI)"
)


def _heads(weight):
    module = torch.nn.Linear(weight.shape[1], len(weight), bias=False)
    module.weight.data = weight
    base = SimpleNamespace(lm_head=module.requires_grad_(False))
    return Head(base, COLUMNS, screened=True), Head(base, COLUMNS, screened=False)


def _weight(seed=0):
    return torch.randn(COLUMNS + SURPLUS, HIDDEN, generator=torch.Generator().manual_seed(seed))


def _states(rows, seed=1):
    return torch.randn(rows, HIDDEN, generator=torch.Generator().manual_seed(seed))


@needs_products
@pytest.mark.parametrize("rows", [1, 7, 300])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_same_tokens_come_out(rows, scale):
    screened, plain = _heads(_weight() * scale)
    states = _states(rows)
    assert screened._screen.likeliest(states) is not None
    assert torch.equal(screened.likeliest(states), plain.likeliest(states))


@needs_products
@pytest.mark.parametrize("hidden", [8, 256])
def test_columns_and_states_of_very_different_lengths_are_no_trouble(hidden):
    generator = torch.Generator().manual_seed(4)

    def drawn(rows):
        return torch.randn(rows, hidden, generator=generator) * torch.randn(rows, 1, generator=generator).exp()

    screened, plain = _heads(drawn(COLUMNS + SURPLUS))
    states = drawn(64)
    assert torch.equal(screened._screen.likeliest(states), plain.likeliest(states))


@needs_products
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


@needs_products
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


@needs_products
def test_of_equal_tokens_the_first_is_taken():
    weight = _weight()
    weight[400] = weight[600] = 3 * _states(1)[0]
    screened, _ = _heads(weight)
    assert screened._screen.likeliest(_states(1)).tolist() == [400]


@needs_products
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


@needs_products
def test_the_room_beyond_the_last_column_is_never_looked_at():
    # Products below zero everywhere: zeros in the four columns that fill the last block would be the greatest.
    weight = -_weight().abs()[:1020]
    screen, states = _Screen(weight), _states(4).abs()
    assert torch.equal(screen.likeliest(states), (states @ weight.T).argmax(dim=1))
    # A state of zeros makes every column a candidate, where the last block is all zeros those beyond too.
    weight[896:] = 0.0
    states = _states(100)
    states[3] = 0.0
    found = _Screen(weight).likeliest(states)
    assert found is None or found.max() < len(weight)


@needs_products
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_states_that_are_no_numbers_are_left_to_the_head(rows, wrong):
    screened, plain = _heads(_weight())
    states = _states(rows)
    states[rows // 2, 5] = wrong
    assert screened._screen.likeliest(states) is None
    assert torch.equal(screened.likeliest(states), plain.likeliest(states))


@needs_products
def test_true_products_lie_within_the_bound_and_may_come_close_to_it():
    weight = _weight() * torch.randn(COLUMNS + SURPLUS, 1, generator=torch.Generator().manual_seed(2)).exp()
    screen = _Screen(weight)
    blocks = weight.unflatten(0, (-1, 128))
    rounded, unit = _in_eight_bits(blocks, (1, 2))
    change = (blocks - rounded * unit).flatten(0, 1)
    own, own_unit = _in_eight_bits(_states(200), (1,))
    # States along what rounding took from a column, and columns along what it took from a state.
    aligned = _Screen(torch.cat([weight[:512], (_states(200) - own * own_unit).repeat(3, 1)[:512]]))
    shares = []
    for bound, matrix, states in (
        (screen, weight, _states(200)),
        (screen, weight, change[change.norm(dim=1) > 0]),
        (aligned, aligned._weight, _states(200)),
    ):
        numbers, scale, error = bound.products(states)
        known = (numbers * scale[:, :, None].double()).flatten(1)
        off = (states.double() @ matrix.double().T - known).abs().unflatten(1, (-1, 128)).amax(dim=2)
        assert (off <= error).all()
        shares.append(float((off / error).max()))
    assert max(shares) > 0.6


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
@pytest.mark.parametrize("width", [1, 3, 256, 8192])
def test_lengths_are_never_short_of_the_true_ones(scale, width):
    generator = torch.Generator().manual_seed(width)
    vectors = torch.randn(50, width, generator=generator).exp() * scale
    # Equal numbers, whose squares are summed with the same rounding each time, are the worst.
    vectors[::2] = vectors[::2, :1]
    _, unit = _in_eight_bits(vectors, (1,))
    found, true = _lengths(vectors, unit).double(), torch.linalg.vector_norm(vectors.double(), dim=1)
    assert (found >= true * (1 - 1e-6)).all()
    assert (found <= true * (1 + 2e-3)).all()
    # Without what is added for it, summing loses more than the rest of the bound allows for, or nothing at all.
    assert width < 256 or (found >= true).all()


@needs_products
def test_a_screen_is_the_same_whatever_part_of_the_head_is_rounded_at_one_time(monkeypatch):
    weight, states = _weight(), _states(9)
    whole = _Screen(weight).products(states)
    monkeypatch.setattr(head, "_ELEMENTS_AT_ONCE", 3 * 128 * HIDDEN)
    assert all(torch.equal(one, other) for one, other in zip(_Screen(weight).products(states), whole, strict=True))


@needs_products
def test_a_screen_that_helps_now_and_then_is_kept():
    screened, _ = _heads(_weight())
    for _ in range(3):
        for _ in range(7):
            assert screened.likeliest(torch.full((2, HIDDEN), float("nan"))) is not None
        for _ in range(7):
            screened.likeliest(_states(2))
    assert screened._screen is not None


@needs_products
def test_a_screen_holds_nothing_for_gradients():
    module = torch.nn.Linear(HIDDEN, COLUMNS, bias=False)
    screen = Head(SimpleNamespace(lm_head=module), COLUMNS, screened=True)._screen
    assert not any(part.requires_grad for part in (screen._unit, screen._longest, screen._changed))


def test_only_large_float32_heads_on_a_processor_are_screened(monkeypatch):
    monkeypatch.setattr(head, "multiplies_eight_bits", lambda: True)
    large = torch.nn.Linear(1024, 8192, bias=False)
    assert _screens(large)
    assert not _screens(torch.nn.Linear(1024, 8191, bias=False))
    assert not _screens(torch.nn.Linear(1024, 8192, bias=True))
    assert not _screens(large.bfloat16())
    monkeypatch.setattr(head, "multiplies_eight_bits", lambda: False)
    assert not _screens(large.float())
