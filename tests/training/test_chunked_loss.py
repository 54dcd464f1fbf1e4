"""The objective as training calls it: values and gradients of the plain form, whatever the chunk."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as in the code under test
from peft import LoraConfig, get_peft_model
from torch import nn

from mulcot_rd.errors import UserError
from mulcot_rd.training.distributions import (
    CHUNK_BYTES,
    ExactDistributions,
    TopDistributions,
    rows_at_once,
    top_distributions,
)
from mulcot_rd.training.forward import OutputHead, output_head
from mulcot_rd.training.objective import (
    StudentLossWeights,
    TaskWeights,
    chunked_loss,
    plain_loss,
    reference_student_loss,
)

SIZES = {"label": 5, "reasoning": 37}
VOCABULARY, STUDENT_COLUMNS, STUDENT_WIDTH, ASSISTANT_WIDTH = 50, 56, 8, 12
WEIGHTS = StudentLossWeights(
    hard=TaskWeights(label=0.3, reasoning=0.7),
    soft=TaskWeights(label=0.6, reasoning=0.4),
    kd_ratio=0.4,
    temperature=1.7,
    vocabulary_size=VOCABULARY,
)
PRECISION = {torch.float64: {"rtol": 1e-10, "atol": 1e-12}, torch.float32: {"rtol": 1e-5, "atol": 1e-6}}


class Case:
    """Random states, heads and targets of both models, and the leaves that take gradients."""

    def __init__(self, dtype, *, bias=True, scale=1.0, head_trained=True):
        generator = torch.Generator().manual_seed(5)

        def normal(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        self.states = {task: normal(n, STUDENT_WIDTH).requires_grad_() for task, n in SIZES.items()}
        self.weight = normal(STUDENT_COLUMNS, STUDENT_WIDTH).requires_grad_(head_trained)
        self.bias = normal(STUDENT_COLUMNS).requires_grad_(head_trained) if bias else None
        self.head = OutputHead(self.weight, self.bias, scale)
        assistant_head = normal(VOCABULARY, ASSISTANT_WIDTH)
        self.assistant = {
            task: ExactDistributions(normal(n, ASSISTANT_WIDTH), assistant_head) for task, n in SIZES.items()
        }
        self.targets = {task: torch.randint(VOCABULARY, (n,), generator=generator) for task, n in SIZES.items()}
        self.leaves = [*self.states.values()]
        if head_trained:
            self.leaves += [self.weight] if self.bias is None else [self.weight, self.bias]

    def logits(self):
        return {
            task: F.linear(values * self.head.scale, self.weight, self.bias) for task, values in self.states.items()
        }

    def gradients(self, total):
        return torch.autograd.grad(3 * total, self.leaves, retain_graph=True)


def _assert_equal(case, ours, plain, precision):
    torch.testing.assert_close(ours.total, plain.total, **precision)
    for mine, theirs in ((ours.hard, plain.hard), (ours.soft, plain.soft)):
        assert list(mine) == list(theirs)
        for task in theirs:
            torch.testing.assert_close(mine[task], theirs[task], **precision)
    for mine, theirs in zip(case.gradients(ours.total), case.gradients(plain.total), strict=True):
        torch.testing.assert_close(mine, theirs, **precision)


@pytest.mark.parametrize("chunk_rows", [1, 4, 41, 42, 1000, None])
@pytest.mark.parametrize("dtype", PRECISION)
def test_the_students_loss_is_the_reference_for_any_chunk(dtype, chunk_rows):
    case = Case(dtype)
    ours = chunked_loss(case.head, case.states, case.targets, case.assistant, WEIGHTS, SIZES, chunk_rows)
    taught = {task: part.logits() for task, part in case.assistant.items()}
    _assert_equal(case, ours, reference_student_loss(case.logits(), case.targets, taught, WEIGHTS), PRECISION[dtype])


@pytest.mark.parametrize("chunk_rows", [1, 13, None])
@pytest.mark.parametrize("dtype", PRECISION)
def test_the_assistants_loss_is_the_plain_one_for_any_chunk(dtype, chunk_rows):
    case = Case(dtype)
    weights = StudentLossWeights.without_soft_labels(WEIGHTS.hard, VOCABULARY)
    ours = chunked_loss(case.head, case.states, case.targets, None, weights, SIZES, chunk_rows)
    plain = plain_loss(case.logits(), case.targets, None, weights, SIZES)
    _assert_equal(case, ours, plain, PRECISION[dtype])


@pytest.mark.parametrize("options", [{"bias": False}, {"scale": STUDENT_WIDTH**-0.5}, {"head_trained": False}])
def test_any_head_will_do(options):
    case = Case(torch.float64, **options)
    ours = chunked_loss(case.head, case.states, case.targets, case.assistant, WEIGHTS, SIZES, 10)
    taught = {task: part.logits() for task, part in case.assistant.items()}
    plain = reference_student_loss(case.logits(), case.targets, taught, WEIGHTS)
    _assert_equal(case, ours, plain, PRECISION[torch.float64])


def _merged(probabilities, ids):
    """Probabilities of the ids and, last, of all others together."""
    kept = probabilities.gather(1, ids)
    others = torch.ones_like(probabilities).scatter(1, ids, 0)
    return torch.cat([kept, (probabilities * others).sum(dim=1, keepdim=True)], dim=1)


@pytest.mark.parametrize("top_k", [1, 7, 49, 64])
@pytest.mark.parametrize("chunk_rows", [6, None])
def test_compact_distributions_give_the_divergence_of_the_top_and_the_rest(top_k, chunk_rows):
    case = Case(torch.float64)
    compact = {task: top_distributions(part, top_k, WEIGHTS.temperature, 4) for task, part in case.assistant.items()}
    ours = chunked_loss(case.head, case.states, case.targets, compact, WEIGHTS, SIZES, chunk_rows)
    plain = reference_student_loss(
        case.logits(), case.targets, {task: part.logits() for task, part in case.assistant.items()}, WEIGHTS
    )
    soft = {}
    for task, logits in case.logits().items():
        ids = compact[task].ids
        p = _merged((case.assistant[task].logits() / WEIGHTS.temperature).softmax(1), ids)
        q = _merged((logits[:, :VOCABULARY] / WEIGHTS.temperature).softmax(1), ids)
        soft[task] = (p * (p / q).log()).sum() / SIZES[task]
        assert ours.soft[task] <= plain.soft[task] + 1e-12
    hard = sum(WEIGHTS.hard.of(task) * term for task, term in plain.hard.items())
    total = (1 - WEIGHTS.kd_ratio) * hard
    total = total + WEIGHTS.kd_ratio * sum(WEIGHTS.soft.of(task) * term for task, term in soft.items())
    _assert_equal(case, ours, replace(plain, total=total, soft=soft), PRECISION[torch.float64])
    if top_k >= VOCABULARY - 1:
        # The bucket holds one id: nothing is merged.
        _assert_equal(case, ours, plain, PRECISION[torch.float64])


def _one_task(logits):
    """A head that passes logits through, and states [N, V]."""
    return OutputHead(torch.eye(logits.shape[1])), {"label": logits.clone().requires_grad_()}


@pytest.mark.parametrize("temperature", [1.7, 2.0, 3.0])
def test_a_confident_student_with_large_logits_has_a_small_loss_and_never_a_negative_one(temperature):
    logits = torch.randn(64, 500, generator=torch.Generator().manual_seed(2))
    targets = torch.arange(64)
    logits[targets, targets] = 60.0
    head, states = _one_task(logits)
    assistant = {"label": ExactDistributions(logits, torch.eye(500))}
    weights = StudentLossWeights(temperature=temperature)
    loss = chunked_loss(head, states, {"label": targets}, assistant, weights, {"label": 64}, 10)
    exact = F.cross_entropy(logits.double(), targets)
    assert 0 <= float(loss.hard["label"]) == pytest.approx(float(exact), abs=1e-6)
    assert float(loss.soft["label"]) == pytest.approx(0, abs=1e-6)


def test_logits_that_are_no_numbers_make_a_loss_that_is_none():
    logits = torch.zeros(2, 1000)
    logits[1, 999] = torch.nan
    head, states = _one_task(logits)
    weights = StudentLossWeights.without_soft_labels(TaskWeights(), 1000)
    assert chunked_loss(head, states, {"label": torch.tensor([0, 0])}, None, weights, {"label": 2}, 1).total.isnan()


def test_logits_held_at_one_time_fit_their_room():
    for kind, device in (("cpu", torch.device("cpu")), ("gpu", torch.device("cuda"))):
        rows = rows_at_once(151_665, device)
        assert rows % 16 == 0
        assert rows * 151_665 * 4 <= CHUNK_BYTES[kind] < (rows + 16) * 151_665 * 4
    assert rows_at_once(CHUNK_BYTES["cpu"] // 4 // 9, torch.device("cpu")) == 9
    assert rows_at_once(10**9, torch.device("cpu")) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_head_of_half_precision_gives_the_reference_but_for_its_rounding(dtype):
    case, exact = Case(dtype), Case(torch.float64)
    ours = chunked_loss(case.head, case.states, case.targets, case.assistant, WEIGHTS, SIZES, 4)
    assistant = {task: part.logits() for task, part in exact.assistant.items()}
    plain = reference_student_loss(exact.logits(), exact.targets, assistant, WEIGHTS)
    torch.testing.assert_close(ours.total.double(), plain.total, rtol=2e-2, atol=0)
    for mine, theirs in zip(case.gradients(ours.total), exact.gradients(plain.total), strict=True):
        assert (mine.double() - theirs).norm() < 0.05 * theirs.norm()


def test_a_certain_student_gets_a_finite_loss_and_gradient():
    """Its probability of "any other id" is below the smallest float32."""
    head = OutputHead(torch.eye(4))
    states = {"label": (torch.tensor([[0.0, 500.0, 0.0, 0.0]])).requires_grad_()}
    taught = TopDistributions(torch.tensor([[1]]), torch.log(torch.tensor([[0.75, 0.25]])), 4, 2.0)
    loss = chunked_loss(
        head, states, {"label": torch.tensor([1])}, {"label": taught}, StudentLossWeights(), {"label": 1}
    )
    loss.total.backward()
    assert torch.isfinite(loss.total)
    assert torch.isfinite(states["label"].grad).all()


def test_shares_of_a_window_add_up():
    case = Case(torch.float64)
    whole = chunked_loss(case.head, case.states, case.targets, case.assistant, WEIGHTS, SIZES)
    total = 0
    for piece in (slice(0, 2), slice(2, None)):
        part = {task: ExactDistributions(each.states[piece], each.weight) for task, each in case.assistant.items()}
        total = (
            total
            + chunked_loss(
                case.head,
                {task: values[piece] for task, values in case.states.items()},
                {task: ids[piece] for task, ids in case.targets.items()},
                part,
                WEIGHTS,
                SIZES,
            ).total
        )
    torch.testing.assert_close(total, whole.total, rtol=1e-12, atol=1e-12)


def test_no_tensor_of_positions_by_vocabulary_is_ever_made():
    case = Case(torch.float32)
    largest = 0

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            made = isinstance(out, torch.Tensor) and out._base is None
            # Logits have all ids along one side, and positions along the other; heads have a width there.
            if made and out.ndim == 2 and VOCABULARY in out.shape:
                other = out.shape[0] if out.shape[1] == VOCABULARY else out.shape[1]
                largest = max(largest, other if other not in (STUDENT_WIDTH, ASSISTANT_WIDTH) else 0)
            return out

    with Watch():
        for taught in (
            case.assistant,
            {task: top_distributions(part, 4, 1.7, 3) for task, part in case.assistant.items()},
        ):
            chunked_loss(case.head, case.states, case.targets, taught, WEIGHTS, SIZES, 3).total.backward()
    assert largest == 3


def test_what_does_not_fit_is_refused():
    case = Case(torch.float64)

    def loss(**changes):
        arguments = {"targets": case.targets, "assistant": case.assistant, "weights": WEIGHTS, **changes}
        return chunked_loss(case.head, case.states, window_tokens=SIZES, **arguments)

    with pytest.raises(ValueError, match="outside the shared vocabulary"):
        loss(targets={task: ids + VOCABULARY for task, ids in case.targets.items()})
    with pytest.raises(ValueError, match="different tasks: label, reasoning; label; label, reasoning; "):
        loss(targets={"label": case.targets["label"]})
    with pytest.raises(ValueError, match=r"target id -\d+ of the label task"):
        loss(targets={task: ids - ids.max() - 1 for task, ids in case.targets.items()})
    with pytest.raises(ValueError, match="different tasks"):
        loss(assistant={"label": case.assistant["label"]})
    with pytest.raises(ValueError, match=r"lambda is 0\.4 and there are no soft labels"):
        loss(assistant=None)
    with pytest.raises(ValueError, match="does not fit"):
        loss(weights=WEIGHTS.model_copy(update={"vocabulary_size": VOCABULARY + 1}))
    short = {task: ExactDistributions(part.states[1:], part.weight) for task, part in case.assistant.items()}
    with pytest.raises(ValueError, match="5 student rows, 5 targets and 4 assistant"):
        loss(assistant=short)
    compact = {task: top_distributions(part, 3, 2.0, 8) for task, part in case.assistant.items()}
    with pytest.raises(ValueError, match=r"hold for temperature 2\.0, not for 1\.7"):
        loss(assistant=compact)
    with pytest.raises(ValueError, match="can't be cut to 40"):
        small = {task: ids % 40 for task, ids in case.targets.items()}
        loss(targets=small, assistant=compact, weights=WEIGHTS.model_copy(update={"vocabulary_size": 40}))


class _Model(nn.Module):
    """A head and the configuration that :func:`output_head` asks."""

    def __init__(self):
        super().__init__()
        self.config = type("Config", (), {"model_type": "none", "get": lambda *_: None, "to_dict": lambda _: {}})()
        self.body = nn.Linear(4, 4)
        self.lm_head = nn.Linear(4, 6)


def test_a_head_that_is_trained_whole_is_the_trained_copy_and_one_with_lora_is_refused():
    trained = get_peft_model(_Model(), LoraConfig(target_modules=["body"], modules_to_save=["lm_head"]))
    head = output_head(trained)
    assert head.weight.requires_grad
    assert head.weight is trained.get_base_model().lm_head.modules_to_save["default"].weight
    with pytest.raises(UserError, match="low-rank adapter"):
        output_head(get_peft_model(_Model(), LoraConfig(target_modules=["lm_head"])))
