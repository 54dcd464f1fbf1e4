"""The preference loss: equal to TRL's, exact in float64, and what must hold for any pair."""

import math

import pytest
import torch

from mulcot_rd.training.preference_loss import preference_loss

# Log-probabilities of each answer's tokens, and of the whole answers by the reference.
CHOSEN = [[-0.5, -1.25, -0.75], [-2.0, -0.25], [-0.125, -0.5, -1.0, -3.0]]
REJECTED = [[-1.5, -0.5], [-0.25, -1.75, -0.5, -0.5], [-2.5, -1.5]]
REFERENCE = [[-3.0, -1.5], [-2.0, -3.25], [-5.5, -2.75]]
LOG_RATIOS = [
    [sum(answer) - reference for answer, reference in zip(pair, references, strict=True)]
    for pair, references in zip(zip(CHOSEN, REJECTED, strict=True), REFERENCE, strict=True)
]
LENGTHS = [[len(chosen), len(rejected)] for chosen, rejected in zip(CHOSEN, REJECTED, strict=True)]
KINDS = ("sigmoid", "sigmoid_norm", "ipo")

# What DPOTrainer._compute_loss of TRL 1.16.0 gives for these in float64: the mean over pairs, and its gradient with
# respect to the first token of each answer.
TRL = {
    ("sigmoid", 0.1): (
        0.6517958105048839,
        [[-0.01583402708403533, 0.01583402708403533], [-0.017083246549473678, 0.017083246549473678],
         [-0.014902467062236469, 0.014902467062236469]],
    ),
    ("sigmoid", 0.5): (
        0.5322831806433856,
        [[-0.0629234447996909, 0.0629234447996909], [-0.09369608348096636, 0.09369608348096636],
         [-0.0428053318979198, 0.0428053318979198]],
    ),
    ("ipo", 0.1): (
        21.73050491898148,
        [[-1.0185185185185184, 1.5277777777777777], [-1.7291666666666665, 0.8645833333333333],
         [-0.6927083333333333, 1.3854166666666665]],
    ),
    ("ipo", 0.5): (
        0.5916160300925927,
        [[-0.12962962962962962, 0.19444444444444445], [-0.3958333333333333, 0.19791666666666666],
         [-0.026041666666666664, 0.05208333333333333]],
    ),
    ("sigmoid_norm", 0.1): (
        0.6756487599804634,
        [[-0.005439831556807059, 0.008159747335210589], [-0.008411456044595436, 0.004205728022297718],
         [-0.00399098962676516, 0.00798197925353032]],
    ),
    ("sigmoid_norm", 0.5): (
        0.6132701449034541,
        [[-0.02489467959620938, 0.03734201939431407], [-0.043618362411360335, 0.021809181205680168],
         [-0.016502840261418402, 0.033005680522836804]],
    ),
}  # fmt: skip


def _inputs(dtype=torch.float64):
    return torch.tensor(LOG_RATIOS, dtype=dtype, requires_grad=True), torch.tensor(LENGTHS)


@pytest.mark.parametrize(("kind", "beta"), TRL)
def test_values_and_gradients_are_those_of_trl(kind, beta):
    log_ratios, lengths = _inputs()
    loss = preference_loss(log_ratios, lengths, beta, kind).mean()
    loss.backward()
    value, gradient = TRL[kind, beta]
    assert loss.item() == pytest.approx(value, rel=1e-12)
    assert log_ratios.grad.tolist() == [pytest.approx(row, rel=1e-12) for row in gradient]


@pytest.mark.parametrize("kind", KINDS)
def test_float32_is_as_exact_as_its_numbers(kind):
    exact = preference_loss(*_inputs(), 0.3, kind)
    assert preference_loss(*_inputs(torch.float32), 0.3, kind).double().tolist() == pytest.approx(
        exact.tolist(), rel=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_equal_policies_give_the_loss_of_a_coin(kind):
    losses = preference_loss(torch.zeros(3, 2), torch.tensor(LENGTHS), 0.2, kind)
    wanted = (1 / 0.4) ** 2 if kind == "ipo" else math.log(2)
    assert losses.tolist() == pytest.approx([wanted] * 3)


@pytest.mark.parametrize("kind", ["sigmoid", "sigmoid_norm"])
def test_swapped_pairs_give_the_probability_of_the_other_choice(kind):
    log_ratios, lengths = _inputs()
    one = preference_loss(log_ratios, lengths, 0.7, kind)
    other = preference_loss(log_ratios.flip(1), lengths.flip(1), 0.7, kind)
    assert ((-one).exp() + (-other).exp()).tolist() == pytest.approx([1.0] * 3)


def test_ipo_is_least_at_its_aim():
    log_ratios = torch.tensor([[4.0, -1.0]], requires_grad=True)
    loss = preference_loss(log_ratios, torch.tensor([[2, 2]]), 0.2, "ipo")
    loss.sum().backward()
    assert loss.item() == 0
    assert log_ratios.grad.tolist() == [[0, 0]]


def test_by_token_length_is_no_reward():
    """Twice the tokens at the same log-ratio a token change nothing; plain DPO takes that for a better answer."""
    lengths = torch.tensor([[5, 5], [10, 5]])
    log_ratios = torch.tensor([[1.0, 0.5], [2.0, 0.5]])
    for kind in ("sigmoid_norm", "ipo"):
        one, longer = preference_loss(log_ratios, lengths, 0.5, kind).tolist()
        assert one == pytest.approx(longer)
    one, longer = preference_loss(log_ratios, lengths, 0.5, "sigmoid").tolist()
    assert longer < one
