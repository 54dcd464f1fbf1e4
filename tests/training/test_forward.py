"""The shared opening: one pass over opening and both branches equals separate passes."""

import pytest
import torch

from mulcot_rd.prompts import TASKS
from mulcot_rd.training.batches import collate, micro_batches, windows
from mulcot_rd.training.forward import head_logits, target_states
from mulcot_rd.training.objective import TaskWeights, windowed_multi_task_loss


def _separate_logits(role, examples, task):
    """Logits at the targets of one task from a plain pass over each row's own prompt and answer."""
    rows = []
    for example in examples:
        target = example.targets[task]
        ids = torch.tensor(example.opening + example.endings[task] + target)[None]
        images = role.encoder.images([example.image])
        logits = role.model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            **role.encoder.family.forward_kwargs(role.encoder.image_positions(ids), images),
        ).logits[0]
        rows.append(logits[-len(target) - 1 : -1])
    return torch.cat(rows)


def _loss(logits, targets):
    counts = {task: len(ids) for task, ids in targets.items()}
    return windowed_multi_task_loss(logits, targets, TaskWeights(), counts, next(iter(logits.values())).shape[1]).total


def test_one_pass_equals_separate_passes_in_value_and_gradient(role, examples):
    batch = collate(examples, role.encoder)
    trained = [parameter for parameter in role.model.parameters() if parameter.requires_grad]
    shared = head_logits(role.model, target_states(role.model, batch))
    separate = {task: _separate_logits(role, examples, task) for task in TASKS}
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
        alone = [head_logits(role.model, target_states(role.model, collate([e], role.encoder))) for e in examples]
        together = head_logits(role.model, target_states(role.model, collate(examples, role.encoder)))
    for task in TASKS:
        torch.testing.assert_close(torch.cat([one[task] for one in alone]), together[task], rtol=1e-5, atol=1e-5)


def test_targets_are_the_answers_and_end_the_turn(role, examples, reasonings):
    tokenizer = role.encoder.tokenizer
    for example, record in zip(examples, reasonings, strict=True):
        assert example.targets["label"][-1] == tokenizer.eos_token_id
        assert tokenizer.decode(example.targets["label"][:-1]) == f'"Prediction": {record.label.value}'
        assert example.opening.count(role.encoder.image_token_id) == role.encoder.image_tokens


@pytest.mark.parametrize("rows", [1, 4, 6, 100])
def test_windows_hold_every_row_once_in_an_order_of_seed_and_epoch(examples, rows):
    first = windows(examples, rows, seed=1, epoch=0)
    assert sorted(index for window in first for index in window) == list(range(len(examples)))
    assert first == windows(examples, rows, seed=1, epoch=0)
    if rows == 1:
        assert first != windows(examples, rows, seed=1, epoch=1)
        assert first != windows(examples, rows, seed=2, epoch=0)
    for window in first:
        assert sorted(index for batch in micro_batches(window, 2) for index in batch) == sorted(window)


def test_recomputing_activations_changes_no_gradient(role, examples):
    batch = collate(examples, role.encoder)
    trained = [parameter for parameter in role.model.parameters() if parameter.requires_grad]

    def gradients():
        torch.manual_seed(0)
        role.model.train()
        logits = head_logits(role.model, target_states(role.model, batch))
        return torch.autograd.grad(_loss(logits, batch.targets), trained, allow_unused=True)

    kept = gradients()
    role.backbone.model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    for recomputed, plain in zip(gradients(), kept, strict=True):
        if plain is not None:
            torch.testing.assert_close(recomputed, plain, rtol=1e-5, atol=1e-6)
