"""The objective: identities, invariances, and values and gradients against a plain float64 computation."""

import math

import pytest
import torch

from mulcot_rd.training.objective import (
    StudentLossWeights,
    TaskWeights,
    plain_loss,
    reference_student_loss,
)

SIZES = {"label": 5, "reasoning": 37}
VOCABULARY = 23
WITHOUT_SOFT_LABELS = StudentLossWeights.without_soft_labels(TaskWeights(), VOCABULARY)


def _logits(columns, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return {task: torch.randn(n, columns, generator=generator, dtype=dtype) * 3 for task, n in SIZES.items()}


def _targets(seed=9):
    generator = torch.Generator().manual_seed(seed)
    return {task: torch.randint(VOCABULARY, (n,), generator=generator) for task, n in SIZES.items()}


def _plain(student, targets, assistant, weights):
    """Eqs. 9 to 13 position by position, with Python's own arithmetic on float64 tensors."""
    hard, soft = {}, {}
    for task in student:
        hard[task] = soft[task] = torch.zeros((), dtype=torch.float64)
        for row, target, teacher in zip(student[task], targets[task], assistant[task], strict=True):
            exponents = row.exp()
            hard[task] = hard[task] - (exponents[target] / exponents.sum()).log()
            p_s = (row / weights.temperature).exp()
            p_a = (teacher / weights.temperature).exp()
            p_s, p_a = p_s / p_s.sum(), p_a / p_a.sum()
            soft[task] = soft[task] + sum(a * (a / s).log() for a, s in zip(p_a, p_s, strict=True))
        hard[task], soft[task] = hard[task] / len(targets[task]), soft[task] / len(targets[task])
    multi_hard = weights.hard.label * hard["label"] + weights.hard.reasoning * hard["reasoning"]
    multi_soft = weights.soft.label * soft["label"] + weights.soft.reasoning * soft["reasoning"]
    return (1 - weights.kd_ratio) * multi_hard + weights.kd_ratio * multi_soft, hard, soft


@pytest.mark.parametrize(
    "weights",
    [
        StudentLossWeights(),
        StudentLossWeights(
            hard=TaskWeights(label=0.5, reasoning=0.5),
            soft=TaskWeights(label=0.9, reasoning=0.1),
            kd_ratio=0.7,
            temperature=3.5,
        ),
        StudentLossWeights(kd_ratio=0.0),
        StudentLossWeights(kd_ratio=1.0, temperature=1.0),
    ],
)
def test_values_and_gradients_equal_a_plain_computation(weights):
    student = {task: values.requires_grad_() for task, values in _logits(VOCABULARY).items()}
    assistant, targets = _logits(VOCABULARY, seed=1), _targets()
    loss = reference_student_loss(student, targets, assistant, weights)
    total, hard, soft = _plain(student, targets, assistant, weights)
    torch.testing.assert_close(loss.total, total, rtol=1e-12, atol=1e-12)
    for task in SIZES:
        torch.testing.assert_close(loss.hard[task], hard[task], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(loss.soft[task], soft[task], rtol=1e-12, atol=1e-12)
    leaves = list(student.values())
    ours = torch.autograd.grad(loss.total, leaves, retain_graph=True)
    plain = torch.autograd.grad(total, leaves)
    for mine, theirs in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_equal_logits_have_no_soft_loss():
    logits = _logits(VOCABULARY)
    loss = reference_student_loss(logits, _targets(), logits, StudentLossWeights())
    assert all(abs(float(term)) < 1e-12 for term in loss.soft.values())


def test_a_constant_added_to_all_logits_changes_nothing():
    student, assistant, targets = _logits(VOCABULARY), _logits(VOCABULARY, 1), _targets()
    before = reference_student_loss(student, targets, assistant, StudentLossWeights())
    shifted = {task: values + 11 for task, values in student.items()}
    after = reference_student_loss(shifted, targets, assistant, StudentLossWeights())
    torch.testing.assert_close(before.total, after.total)


def test_uniform_students_lose_the_logarithm_of_the_vocabulary():
    uniform = {task: torch.zeros(n, VOCABULARY) for task, n in SIZES.items()}
    loss = reference_student_loss(uniform, _targets(), uniform, StudentLossWeights())
    assert all(math.isclose(float(term), math.log(VOCABULARY), rel_tol=1e-6) for term in loss.hard.values())


@pytest.mark.parametrize("extra", [1, 128])
def test_a_wider_assistant_vocabulary_changes_nothing(extra):
    student, assistant, targets = _logits(VOCABULARY), _logits(VOCABULARY, 1), _targets()
    wider = {
        task: torch.cat([values, torch.full((len(values), extra), 50.0)], dim=1) for task, values in assistant.items()
    }
    for weights in (StudentLossWeights(), StudentLossWeights(vocabulary_size=VOCABULARY)):
        plain = reference_student_loss(student, targets, assistant, weights)
        wide = reference_student_loss(student, targets, wider, weights)
        torch.testing.assert_close(plain.total, wide.total, rtol=0, atol=0)


def test_surplus_columns_of_the_student_change_nothing_once_the_vocabulary_is_named():
    student, assistant, targets = _logits(VOCABULARY), _logits(VOCABULARY, 1), _targets()
    weights = StudentLossWeights(vocabulary_size=VOCABULARY)
    wider = {task: torch.cat([v, torch.full((len(v), 3), 50.0)], dim=1) for task, v in student.items()}
    torch.testing.assert_close(
        reference_student_loss(student, targets, assistant, weights).total,
        reference_student_loss(wider, targets, assistant, weights).total,
    )


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_the_shares_of_a_window_add_up_to_its_loss(pieces):
    student, assistant, targets = _logits(VOCABULARY), _logits(VOCABULARY, 1), _targets()
    whole = reference_student_loss(student, targets, assistant, StudentLossWeights())
    chunks = [
        tuple({task: values[task].chunk(pieces)[piece] for task in SIZES} for values in (student, targets, assistant))
        for piece in range(pieces)
    ]
    shares = [plain_loss(s, t, a, StudentLossWeights(), SIZES) for s, t, a in chunks]
    torch.testing.assert_close(sum(share.total for share in shares), whole.total, rtol=1e-12, atol=1e-12)


def test_without_distillation_the_student_learns_as_the_assistant_does():
    student, targets = _logits(VOCABULARY), _targets()
    alone = plain_loss(student, targets, None, WITHOUT_SOFT_LABELS, SIZES)
    distilled = reference_student_loss(student, targets, student, StudentLossWeights(kd_ratio=0.0))
    torch.testing.assert_close(alone.total.double(), distilled.total, rtol=1e-5, atol=1e-6)


def test_row_order_changes_nothing():
    student, assistant, targets = _logits(VOCABULARY), _logits(VOCABULARY, 1), _targets()
    order = {task: torch.randperm(n, generator=torch.Generator().manual_seed(3)) for task, n in SIZES.items()}
    mixed = [{task: values[task][order[task]] for task in SIZES} for values in (student, targets, assistant)]
    torch.testing.assert_close(
        reference_student_loss(student, targets, assistant, StudentLossWeights()).total,
        reference_student_loss(*mixed, StudentLossWeights()).total,
    )


def test_half_precision_logits_are_summed_in_float32():
    student, assistant = _logits(VOCABULARY, dtype=torch.bfloat16), _logits(VOCABULARY, 1, dtype=torch.bfloat16)
    loss = reference_student_loss(student, _targets(), assistant, StudentLossWeights())
    assert loss.total.dtype == torch.float32


def test_what_does_not_fit_is_refused():
    student, assistant, targets = _logits(VOCABULARY), _logits(VOCABULARY, 1), _targets()
    shorter = {task: values[:-1] for task, values in assistant.items()}
    with pytest.raises(ValueError, match="label task has 5 student rows, 5 targets and 4 assistant"):
        reference_student_loss(student, targets, shorter, StudentLossWeights())
    with pytest.raises(ValueError, match="outside the shared vocabulary"):
        reference_student_loss(
            student, {t: v + VOCABULARY for t, v in targets.items()}, assistant, StudentLossWeights()
        )
    # cross_entropy passes over -100, and the mean would be taken over it.
    ignored = {task: ids.clone() for task, ids in targets.items()}
    ignored["reasoning"][1] = -100
    with pytest.raises(ValueError, match="target id -100 of the reasoning task lies outside"):
        reference_student_loss(student, ignored, assistant, StudentLossWeights())
    alone = {"label": student["label"]}
    with pytest.raises(ValueError, match="different tasks: label; label, reasoning"):
        reference_student_loss(alone, targets, assistant, StudentLossWeights())
    with pytest.raises(ValueError, match="different tasks"):
        plain_loss(alone, targets, None, WITHOUT_SOFT_LABELS, SIZES)
    with pytest.raises(ValueError, match="target id -100"):
        plain_loss(student, ignored, None, WITHOUT_SOFT_LABELS, SIZES)
    with pytest.raises(ValueError, match="does not fit"):
        reference_student_loss(student, targets, assistant, StudentLossWeights(vocabulary_size=VOCABULARY + 1))
    with pytest.raises(ValueError, match="Extra inputs"):
        StudentLossWeights(tau=2.0)
