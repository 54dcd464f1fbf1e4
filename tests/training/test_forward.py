"""The shared prefix: one pass over prefix and both branches equals separate passes."""

import pytest
import torch

from mulcot_rd.prompts import TASKS
from mulcot_rd.reasoning import write, write_label
from mulcot_rd.training.batches import collate, micro_batches, windows
from mulcot_rd.training.forward import output_head, target_states
from mulcot_rd.training.objective import StudentLossWeights, TaskWeights, plain_loss


@pytest.fixture
def separate_logits(role, plain_logits):
    """Logits at the targets of one task from a plain pass over each row's own prompt and answer."""

    def logits(examples, task):
        rows = []
        for example in examples:
            suffix, target = example.suffixes[task], example.targets[task]
            plain = plain_logits(role.model, role.encoder, example.prefix, suffix + target, example.image)
            rows.append(plain[len(suffix) - 1 : -1])
        return torch.cat(rows)

    return logits


def _logits(model, batch):
    head = output_head(model)
    return {task: head.logits(states) for task, states in target_states(model, batch).items()}


def _loss(logits, targets):
    counts = {task: len(ids) for task, ids in targets.items()}
    weights = StudentLossWeights.without_soft_labels(TaskWeights(), next(iter(logits.values())).shape[1])
    return plain_loss(logits, targets, None, weights, counts).total


def test_one_pass_equals_separate_passes_in_value_and_gradient(role, examples, separate_logits):
    batch = collate(examples, role.encoder)
    trained = [parameter for parameter in role.model.parameters() if parameter.requires_grad]
    shared = _logits(role.model, batch)
    separate = {task: separate_logits(examples, task) for task in TASKS}
    for task in TASKS:
        torch.testing.assert_close(shared[task], separate[task], rtol=1e-5, atol=1e-5)
    ours = torch.autograd.grad(_loss(shared, batch.targets), trained, allow_unused=True)
    plain = torch.autograd.grad(_loss(separate, batch.targets), trained, allow_unused=True)
    for mine, theirs in zip(ours, plain, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_a_branch_does_not_see_the_other(role, examples):
    batch = collate(examples[:2], role.encoder)
    with torch.no_grad():
        before = target_states(role.model, batch)
        rows, places = batch.predictors["label"]
        batch.input_ids[rows, places] = 7
        after = target_states(role.model, batch)
    torch.testing.assert_close(before["reasoning"], after["reasoning"], rtol=0, atol=0)
    assert not torch.equal(before["label"], after["label"])


def test_padding_changes_nothing(role, examples):
    with torch.no_grad():
        alone = [_logits(role.model, collate([e], role.encoder)) for e in examples]
        together = _logits(role.model, collate(examples, role.encoder))
    for task in TASKS:
        torch.testing.assert_close(torch.cat([one[task] for one in alone]), together[task], rtol=1e-5, atol=1e-5)


def test_targets_are_the_answers_and_end_the_turn(role, examples, reasonings):
    tokenizer = role.encoder.tokenizer
    for example, record in zip(examples, reasonings, strict=True):
        assert example.targets["label"][-1] == tokenizer.eos_token_id
        assert role.encoder.answer(example.targets["label"], "label") == write_label(record.label)
        assert role.encoder.answer(example.targets["reasoning"], "reasoning") == write(record.reasoning)
        assert example.prefix.count(role.encoder.image_token_id) == role.encoder.image_tokens


LENGTHS = [310, 90, 200, 205, 350, 120]


@pytest.mark.parametrize("rows", [1, 4, 6, 100])
@pytest.mark.parametrize("tokens", [None, 100, 700, 10_000])
def test_windows_hold_every_row_once_in_an_order_of_seed_and_epoch(rows, tokens):
    first = windows(LENGTHS, rows, seed=1, epoch=0)
    assert sorted(index for window in first for index in window) == list(range(len(LENGTHS)))
    assert first == windows(LENGTHS, rows, seed=1, epoch=0)
    if rows == 1:
        assert first != windows(LENGTHS, rows, seed=1, epoch=1)
        assert first != windows(LENGTHS, rows, seed=2, epoch=0)
    for window in first:
        batches = list(micro_batches(window, 2, LENGTHS, tokens))
        assert sorted(index for batch in batches for index in batch) == sorted(window)
        for batch in batches:
            if tokens is None:
                assert len(batch) <= 2
            else:
                assert len(batch) == 1 or len(batch) * max(LENGTHS[index] for index in batch) <= tokens


def test_a_token_budget_takes_more_of_the_short_rows_than_of_the_long_ones():
    (window,) = windows(LENGTHS, 6, seed=1, epoch=0)
    batches = [[LENGTHS[index] for index in batch] for batch in micro_batches(window, 2, LENGTHS, 700)]
    assert batches == [[310, 350], [120, 200, 205], [90]]


def test_recomputing_activations_changes_no_gradient(role, examples):
    batch = collate(examples, role.encoder)
    trained = [parameter for parameter in role.model.parameters() if parameter.requires_grad]

    def gradients():
        torch.manual_seed(0)
        role.model.train()
        logits = _logits(role.model, batch)
        return torch.autograd.grad(_loss(logits, batch.targets), trained, allow_unused=True)

    kept = gradients()
    role.backbone.model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    for recomputed, plain in zip(gradients(), kept, strict=True):
        if plain is not None:
            torch.testing.assert_close(recomputed, plain, rtol=1e-5, atol=1e-6)
