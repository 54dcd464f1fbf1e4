"""Preference optimisation from hidden states: equal to the plain form, whatever the batches, from its own start."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that PyTorch's own documentation uses

from mulcot_rd.models.forward import base_model
from mulcot_rd.models.loaded import load_model
from mulcot_rd.preference.batches import PairPreparation, make_pair_example
from mulcot_rd.preference.objective import (
    PreferenceObjective,
    branch_log_probs,
    reference_log_probs,
    token_log_probs,
)
from mulcot_rd.prompts import TASKS
from mulcot_rd.reasoning import write
from mulcot_rd.schema import PreferencePair, Sentiment
from mulcot_rd.training.forward import OutputHead
from mulcot_rd.training.parameters import OptimisationParameters, PreferenceTrainingParameters
from mulcot_rd.training.preference_loss import preference_loss
from mulcot_rd.training.prefetch import Preparation

ONE = pytest.mark.parametrize("family_name", ["qwen3_vl"], indirect=True)


def make_pairs(reasonings, kind="sampled"):
    """Each reasoning against one with another label, of another length."""
    wrong = {Sentiment.POSITIVE: Sentiment.NEGATIVE}
    return [
        PreferencePair(
            post_id=record.id,
            kind=kind,
            chosen=record.reasoning,
            rejected=record.reasoning.model_copy(
                update={
                    "text_analysis": "It says 'nothing' at all." + " Nothing." * number,
                    "prediction": wrong.get(record.prediction, Sentiment.POSITIVE),
                }
            ),
            chosen_checks={"label_right": 1.0},
            rejected_checks={"label_right": 0.0},
            margin=1.0,
        )
        for number, record in enumerate(reasonings)
    ]


def training(**given):
    return PreferenceTrainingParameters(optimisation=OptimisationParameters(), **given)


@pytest.fixture
def start(student):
    """A trained student, to be trained on."""
    return load_model(student, trainable=True)


@pytest.fixture
def examples(start, posts, reasonings):
    return [
        make_pair_example(pair, post, start.encoder, TASKS)
        for pair, post in zip(make_pairs(reasonings), posts, strict=True)
    ]


@pytest.fixture
def rows(start, examples):
    return Preparation(examples, start.encoder, None, None, start.model.device)


@pytest.fixture
def vocabulary(start):
    return len(start.encoder.tokenizer)


@pytest.fixture
def reference(start, rows, vocabulary, tmp_path):
    file = tmp_path / "reference.safetensors"
    return reference_log_probs(start.model, 6, rows, vocabulary, batch_size=2, file=file)


def _counts(examples):
    return {name: sum(example.counts[name] for example in examples) for name in examples[0].counts}


def _gradients(model):
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def test_log_probabilities_are_those_of_separate_passes(start, posts, reasonings, rows, vocabulary, plain_logits):
    """A pair's three branches see the post and themselves, never one another."""
    batch = rows([1, 4])
    tokens = branch_log_probs(start.model, batch, vocabulary)
    base = base_model(start.model)
    begin = {"chosen": 0, "rejected": 0, "label": 0}
    for index in (1, 4):
        example = rows.examples[index]
        for name, target in example.targets.items():
            branch = [*example.suffixes[name], *target]
            logits = plain_logits(base, start.encoder, list(example.prefix), branch, example.image)
            at = len(example.suffixes[name]) - 1
            log_probs = F.log_softmax(logits[at : at + len(target), :vocabulary], dim=-1)
            wanted = log_probs.gather(1, torch.tensor(target.tolist())[:, None])[:, 0]
            found = tokens[name][begin[name] : begin[name] + len(target)]
            torch.testing.assert_close(found, wanted, atol=2e-4, rtol=1e-4)
            begin[name] += len(target)


def test_equal_policies_give_log_two_and_no_reward(start, examples, rows, reference, vocabulary):
    objective = PreferenceObjective(start.model, training(), vocabulary)
    _, terms = objective(PairPreparation(rows, reference)(range(6)), _counts(examples))
    assert terms["preference_loss"].item() == pytest.approx(math.log(2), abs=1e-4)
    assert terms["chosen_reward"].item() == pytest.approx(0, abs=1e-4)
    assert terms["reward_margin"].item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("loss_type", ["sigmoid", "sigmoid_norm", "ipo"])
@ONE
def test_the_total_is_the_plain_loss_and_both_cross_entropies(start, examples, rows, reference, vocabulary, loss_type):
    shifted = reference + torch.tensor([[0.5, -0.25]])
    parameters = training(loss_type=loss_type, beta=0.3, rpo_alpha=0.7, label_weight=0.4)
    total, terms = PreferenceObjective(start.model, parameters, vocabulary)(
        PairPreparation(rows, shifted)(range(6)), _counts(examples)
    )
    lengths = torch.tensor([[len(e.targets["chosen"]), len(e.targets["rejected"])] for e in examples])
    wanted = preference_loss(reference - shifted, lengths, 0.3, loss_type).mean()
    assert terms["preference_loss"].item() == pytest.approx(wanted.item(), rel=1e-4)
    assert terms["reward_margin"].item() == pytest.approx(0.3 * -0.75, rel=1e-3)
    tokens = sum(len(e.targets["chosen"]) for e in examples)
    assert terms["reasoning_loss"].item() == pytest.approx(-reference[:, 0].sum().item() / tokens, rel=1e-4)
    parts = terms["preference_loss"] + 0.7 * terms["reasoning_loss"] + 0.4 * terms["label_loss"]
    assert total.item() == pytest.approx(parts.item())
    assert set(terms) == set(PreferenceObjective(start.model, parameters, vocabulary).terms(list(examples[0].targets)))


def test_micro_batches_and_padding_change_nothing(start, examples, rows, reference, vocabulary):
    objective = PreferenceObjective(start.model, training(beta=0.5), vocabulary)
    prepare, window = PairPreparation(rows, reference + torch.tensor([[1.0, -2.0]])), _counts(examples)
    whole, terms = objective(prepare(range(6)), window)
    whole.backward()
    at_once = _gradients(start.model)
    parts = []
    for cut in ((0,), (5, 1, 2), (3, 4)):
        part, own = objective(prepare(cut), window)
        part.backward()
        parts.append(own)
    for name, value in terms.items():
        assert sum(own[name] for own in parts).item() == pytest.approx(value.item(), rel=1e-4, abs=1e-5)
    cut_up = _gradients(start.model)
    assert at_once.keys() == cut_up.keys()
    for name, gradient in at_once.items():
        torch.testing.assert_close(cut_up[name], gradient, atol=2e-5, rtol=2e-3)


def test_chunks_of_positions_change_neither_values_nor_gradients():
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(7, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(11, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 11, (7,), generator=generator)
    head = OutputHead(weight)
    wanted = F.log_softmax(states @ weight.T, dim=-1).gather(1, targets[:, None])[:, 0]
    gradients = torch.autograd.grad(wanted.prod(), (states, weight))
    for rows in (1, 3, 7, 100):
        found = token_log_probs(head, states, targets, chunk_rows=rows)
        torch.testing.assert_close(found, wanted)
        for one, other in zip(torch.autograd.grad(found.prod(), (states, weight)), gradients, strict=True):
            torch.testing.assert_close(one, other)


@ONE
def test_the_reference_is_computed_once(start, rows, reference, vocabulary, tmp_path):
    """Also where the model has moved on meanwhile, as in a training that goes on."""
    with torch.no_grad():
        for parameter in start.model.parameters():
            parameter.mul_(2)
    file = tmp_path / "reference.safetensors"
    assert torch.equal(reference_log_probs(start.model, 6, rows, vocabulary, batch_size=2, file=file), reference)


@ONE
def test_targets_are_both_reasonings_and_the_gold_label(start, posts, reasonings, examples):
    for pair, post, example in zip(make_pairs(reasonings), posts, examples, strict=True):
        read = {name: start.encoder.tokenizer.decode(ids) for name, ids in example.targets.items()}
        assert write(pair.chosen).split()[-1] in read["chosen"]
        assert pair.rejected.prediction.value in read["rejected"]
        assert post.label.value in read["label"]
    (pair, post) = make_pairs(reasonings)[0], posts[0]
    assert set(make_pair_example(pair, post, start.encoder, ["reasoning"]).targets) == {"chosen", "rejected"}
