"""The cost model: identities, the model's own tensors, what soft labels take, and what was measured on a GPU."""

from dataclasses import replace

import pytest
from tests.project.conftest import load
from tests.soft_labels import store_soft_labels

from mulcot_rd.kept import Kept
from mulcot_rd.models import BackboneParameters, WeightsError, base_model, parameter_counts
from mulcot_rd.models.loaded import fresh_model
from mulcot_rd.models.lora import parameter_numbers
from mulcot_rd.parameters import InputParameters
from mulcot_rd.planning import cost_model as cost
from mulcot_rd.planning.plan import DryRunParameters, captioned, make_plan, parameter_groups
from mulcot_rd.planning.shape import meta_model, model_shape
from mulcot_rd.prompts import TASKS
from mulcot_rd.training.batches import make_example
from mulcot_rd.training.expansion import teacher_rows
from mulcot_rd.training.soft_labels import SoftLabelParameters

GIB = 2**30
# bench/settings.py: prompts with an image of 100 tokens and two around it, answers of 5 and 200 tokens.
MEASURED_ROW = cost.Row(115 + 102, {"label": 35, "reasoning": 35}, {"label": 5, "reasoning": 200})


def settings(**given):
    return parameter_groups(load(**given))


def shape(role, **given):
    parameters = settings(**given)[role]
    return model_shape(parameters.backbone, parameters.inputs)


@pytest.fixture(scope="module")
def student():
    return shape("student", arch=4, scale="full")


@pytest.fixture(scope="module")
def assistant():
    return shape("assistant", arch=4, scale="full")


@pytest.mark.parametrize("arch", range(1, 7))
def test_parameters_are_those_of_table_10(arch):
    groups = settings(arch=arch, scale="full")
    for role in ("assistant", "student"):
        found = shape(role, arch=arch, scale="full")
        assert (found.total, found.trained) == parameter_counts(groups[role].backbone.model)


@pytest.mark.parametrize("scale", ["full", "tiny"])
def test_bytes_of_the_weights_are_those_of_the_models_tensors(scale):
    for arch in (4, 5, 6):
        parameters = settings(arch=arch, scale=scale)["student"]
        found = model_shape(parameters.backbone, parameters.inputs)
        model = meta_model(parameters.backbone, parameters.inputs.tiny_vocabulary_size)[1]
        sizes = [each.numel() * (4 if each.requires_grad else found.item) for each in model.parameters()]
        assert cost.frozen_bytes(found) + 4 * found.trained == sum(sizes)


def test_soft_labels_take_what_is_written(checkpoint, backbone_parameters, posts, reasonings, tmp_path):
    role = fresh_model("assistant", backbone_parameters, checkpoint, image_size=56, seed=1)
    role.model.eval()
    by_id = {post.id: post for post in posts}
    rows = [make_example(row, by_id[row.post_id], role.encoder, TASKS) for row in teacher_rows(reasonings)]
    positions = sum(len(ids) for row in rows for ids in row.targets.values())
    vocabulary = len(role.encoder.tokenizer)
    found = model_shape(backbone_parameters, InputParameters(image_size=56))
    for kind in ("exact", "compact"):
        parameters = SoftLabelParameters(kind=kind, top_k=8)
        labels = store_soft_labels(role, rows, Kept(tmp_path, kind), {}, parameters)
        expected = cost.soft_label_bytes(positions, replace(found, vocabulary=vocabulary), parameters)
        # Beside the tensors a file has a header and each row's number of targets.
        assert expected <= labels.manifest.bytes <= expected + 3000


def test_features_of_an_image_take_what_is_written(checkpoint, backbone_parameters, posts):
    role = fresh_model("student", backbone_parameters, checkpoint, image_size=56, seed=1)
    found = model_shape(backbone_parameters, InputParameters(image_size=56))
    features = {}
    if found.vision is not None:
        images = role.encoder.images([posts[0].image, posts[1].image])
        features = role.encoder.family.encode_images(base_model(role.model), images)
        found = replace(found, vision=replace(found.vision, trained=0))
        assert cost.image_feature_bytes(replace(found, vision=replace(found.vision, trained=1)), 2) == 0
    assert cost.image_feature_bytes(found, 2) == sum(
        each.nbytes for each in features.values() if each.is_floating_point()
    )


def test_test_posts_alone_are_planned(posts):
    """Such as those on which another run's student is scored."""
    given = settings(arch=5, scale="full")
    rows = captioned([post.model_copy(update={"split": "test"}) for post in posts], 80)
    plan = make_plan(given, rows)
    assert [role.name for role in plan.models] == ["assistant", "student"]
    assert all((work.hours > 0) == (work.stage == "evaluation") for work in plan.work)


def test_recomputed_activations_take_less(student):
    for model in (student, shape("student", arch=5, scale="full")):
        kept = cost.activation_bytes(model, 1000, 2, checkpointing=False)
        assert 0 < cost.activation_bytes(model, 1000, 2, checkpointing=True) < kept / 5
        assert cost.activation_bytes(model, 2000, 4, checkpointing=False) == 2 * kept


@pytest.mark.parametrize("arch", [1, 4, 5])
def test_twice_the_posts_take_twice_the_hours(arch, posts):
    given = settings(arch=arch, scale="full")
    posts = captioned([post.model_copy(update={"split": split}) for post in posts for split in ("train", "test")], 80)

    def planned(count):
        dry_run = DryRunParameters(train_posts=count, device=given["dry_run_settings"].device)
        return make_plan({**given, "dry_run_settings": dry_run}, posts)

    one, two = planned(5000), planned(10000)
    for before, after in zip(one.work, two.work, strict=True):
        grows = 1 if before.stage == "evaluation" or before.what == "scoring of epochs" else 2
        assert after.hours == pytest.approx(grows * before.hours, rel=1e-3), before
    for before, after in zip(one.models, two.models, strict=True):
        assert before.training_bytes == after.training_bytes and before.answering_bytes == after.answering_bytes
        assert after.rows == pytest.approx(2 * before.rows, abs=1)


def test_a_variant_without_assistant_trains_the_student_alone(posts):
    plan = make_plan(settings(scale="full", variant="no_assistant"), posts)
    assert {work.stage for work in plan.work} == {"student_distillation", "evaluation"}
    assert [(role.name, role.rows) for role in plan.models] == [("student", len(posts))]


def test_preference_optimisation_comes_on_top(posts):
    """A post's samples and pairs; all else is as it is without."""
    plain, more = (make_plan(settings(scale="full", variant=variant), posts).work for variant in ("full", "preference"))
    added = [work for work in more if work not in plain]
    assert [work for work in more if work in plain] == plain
    assert [(work.stage, work.what) for work in added] == [
        ("preference_pairs", "samples"),
        ("preference_optimisation", "reference"),
        ("preference_optimisation", "training"),
        ("preference_optimisation", "scoring of epochs"),
        ("evaluation", "student_preference"),
    ]
    assert all(work.hours > 0 for work in added[:3])


def test_a_model_of_the_users_own_is_read_from_its_folder(checkpoint, backbone_parameters):
    own = BackboneParameters(**{**backbone_parameters.model_dump(), "model": checkpoint["location"], "tiny": None})
    found = model_shape(own, InputParameters(image_size=56))
    loaded = fresh_model("student", own, checkpoint, image_size=56, seed=1).model
    assert (found.total, found.trained) == parameter_numbers(loaded)
    with pytest.raises(WeightsError, match="there is no checkpoint folder /gone"):
        model_shape(own.model_copy(update={"model": "/gone"}), InputParameters())


@pytest.mark.parametrize("size", [56, 280])
def test_an_image_takes_the_positions_that_the_processor_gives_it(checkpoint, backbone_parameters, size):
    encoder = fresh_model("student", backbone_parameters, checkpoint, image_size=size, seed=1).encoder
    assert model_shape(backbone_parameters, InputParameters(image_size=size)).image_tokens == encoder.image_tokens


# docs/benchmarks.md, On a GPU: Qwen2.5-VL-3B as student, random weights, H100, 2026-11-28.
def test_operations_of_a_token_are_those_that_were_counted(student, assistant):
    flops = cost.training_flops(student, MEASURED_ROW, assistant) / MEASURED_ROW.tokens
    assert flops / 1e9 == pytest.approx(14.92, rel=0.02)


@pytest.mark.parametrize(("checkpointing", "measured"), [(True, 9.892), (False, 20.43)])
def test_memory_of_training_is_near_what_was_measured(student, assistant, checkpointing, measured):
    parts = (
        cost.frozen_bytes(student),
        cost.TRAINED_BYTES * student.trained,
        cost.gradient_sum_bytes(student, "float64"),
        cost.logit_bytes(student.vocabulary),
        assistant.head * assistant.item,
        cost.activation_bytes(student, 2 * MEASURED_ROW.tokens, 2, checkpointing=checkpointing),
    )
    # The peak is that of the longest rows, the model's of mean ones.
    assert 0.87 * measured < sum(parts) / GIB < measured


@pytest.mark.parametrize(("rows", "answer", "measured"), [(1, 256, 7.27), (24, 200, 8.332)])
def test_memory_of_answering_is_near_what_was_measured(student, rows, answer, measured):
    cache = cost.cache_bytes(student, MEASURED_ROW.prefix + 35 + answer, rows)
    assert 0.87 * measured < (cost.answering_bytes(student) + cache) / GIB < measured


def test_speed_is_what_was_measured(student, assistant):
    device = settings(arch=4, scale="full")["dry_run_settings"].device
    seconds = cost.answer_seconds(student, MEASURED_ROW, 24, device)
    assert 1 / seconds == pytest.approx(10.33, rel=0.02)
    flops = cost.training_flops(student, MEASURED_ROW, assistant)
    shares = device.utilisation
    for share, measured in ((shares.training, 775), (shares.training_activations_kept, 1741)):
        assert MEASURED_ROW.tokens / (3600 * device.hours(flops, share)) == pytest.approx(measured, rel=0.02)
