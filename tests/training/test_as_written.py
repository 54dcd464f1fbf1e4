"""Everything that makes training fast, together, against the method as written: values and gradients."""

import pytest
import torch
from tests.soft_labels import store_soft_labels

from as_written import distillation_loss, multi_task_loss
from mulcot_rd.kept import Kept
from mulcot_rd.models.loaded import fresh_model
from mulcot_rd.training.batches import collate
from mulcot_rd.training.forward import output_head, target_states
from mulcot_rd.training.images import ImageStore
from mulcot_rd.training.objective import StudentLossWeights, TaskWeights, chunked_loss
from mulcot_rd.training.soft_labels import SoftLabelParameters


def _assert_equal_gradients(role, ours, plain):
    trained = [parameter for parameter in role.model.parameters() if parameter.requires_grad]
    mine = torch.autograd.grad(ours, trained, allow_unused=True)
    theirs = torch.autograd.grad(plain, trained, allow_unused=True)
    for one, other in zip(mine, theirs, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.fixture
def student(backbone_parameters, checkpoint):
    """Another role of the same checkpoint; its new weights are drawn from another seed, and moved a little."""
    role = fresh_model("student", backbone_parameters, checkpoint, image_size=56, seed=5)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in role.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
    role.model.eval()
    return role


def test_distillation_from_stored_labels_equals_distillation_from_the_live_assistant(role, student, examples, tmp_path):
    parameters = SoftLabelParameters(rows_per_shard=4)
    soft = store_soft_labels(role, examples, Kept(tmp_path, "soft"), {"model": "x"}, parameters)
    weights = StudentLossWeights(vocabulary_size=len(student.encoder.tokenizer))
    images = ImageStore(tmp_path / "images", student.encoder, student.model, "x")
    images.prepare([example.image for example in examples])
    batch = collate(examples, student.encoder, images)
    assistant = soft.distributions(range(len(examples)), examples, torch.device("cpu"))
    counts = {task: len(ids) for task, ids in batch.targets.items()}
    states = target_states(student.model, batch)
    ours = chunked_loss(output_head(student.model), states, batch.targets, assistant, weights, counts, 50)
    plain = distillation_loss(student.model, role.model, student.encoder, examples, weights)
    torch.testing.assert_close(ours.total, plain.total, rtol=1e-5, atol=1e-5)
    for task in counts:
        torch.testing.assert_close(ours.hard[task], plain.hard[task], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.soft[task], plain.soft[task], rtol=1e-4, atol=1e-5)
        assert float(ours.soft[task]) > 1e-3
    _assert_equal_gradients(student, ours.total, plain.total)


def test_the_assistants_training_equals_a_pass_for_each_task(role, examples):
    batch = collate(examples, role.encoder)
    counts = {task: len(ids) for task, ids in batch.targets.items()}
    states, weights = target_states(role.model, batch), TaskWeights()
    student_weights = StudentLossWeights.without_soft_labels(weights, len(role.encoder.tokenizer))
    ours = chunked_loss(output_head(role.model), states, batch.targets, None, student_weights, counts)
    plain = multi_task_loss(role.model, role.encoder, examples, weights)
    torch.testing.assert_close(ours.total, plain.total, rtol=1e-5, atol=1e-5)
    _assert_equal_gradients(role, ours.total, plain.total)
