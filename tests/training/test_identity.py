"""What makes a training anew, parameter by parameter, and what of a finished one is noticed."""

import json
import shutil
from pathlib import Path

import pytest

from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.generation import GenerationParameters
from mulcot_rd.kept import DamagedError, Kept
from mulcot_rd.models import AdapterParameters, BackboneParameters
from mulcot_rd.models.backbone import PretrainedEncoder
from mulcot_rd.parameters import InputParameters, MethodParameters
from mulcot_rd.renamed import RENAMED
from mulcot_rd.schema import InputView
from mulcot_rd.training.expansion import teacher_rows
from mulcot_rd.training.identity import made_from
from mulcot_rd.training.loop import TrainingError
from mulcot_rd.training.parameters import (
    AssistantTrainingParameters,
    ModelParameters,
    OptimisationParameters,
    StudentTrainingParameters,
    ValidationParameters,
)
from mulcot_rd.training.soft_labels import SoftLabelParameters
from mulcot_rd.training.train import train_model

pytestmark = pytest.mark.slow

# Every parameter of a training: another value, and whether the trained weights depend on it.
OPTIMISATION = {
    "epochs": (3, True),
    "batch_size": (3, True),
    "batch_tokens": (512, True),
    "gradient_accumulation_steps": (5, True),
    "learning_rate": (1e-5, True),
    "min_lr": (1e-7, True),
    "lr_patience": (4, True),
    "lr_factor": (0.3, True),
    "lr_factors": ({"lora_B": 16.0}, True),
    "lr_schedule": ("linear", True),
    "early_stopping_patience": (7, True),
    "warmup_steps": (9, True),
    "weight_decay": (0.1, True),
    "max_grad_norm": (0.5, True),
    "validation": (ValidationParameters(metric="macro_f1"), True),
    "checkpoint_minutes": (7.0, False),
}
BACKBONE = {
    "family": ("another", True),
    "tiny": (None, True),
    "encoder": (PretrainedEncoder(layers=2), True),
    "dtype": ("bfloat16", True),
    "adapter": (AdapterParameters(r=8), True),
    # Which weights these name is told by their content.
    "model": ("../a/copy/elsewhere", False),
    "revision": ("abc", False),
    "attn_implementation": ("eager", False),
    "gradient_checkpointing": (True, False),
}
GENERATION = {
    "max_new_tokens": (99, True),
    "max_label_tokens": (9, True),
    "max_retries": (1, True),
    "samples": (2, True),
    "retry_temperature": (0.1, True),
    "retry_top_p": (0.5, True),
    "backend": ("served", True),
    "served": ({"base_url": "http://localhost:1/v1", "model": "m"}, False),
    "batch_size": (8, False),
}
SOFT_LABELS = {
    "kind": ("compact", True),
    "batch_size": (3, False),
    "rows_per_shard": (3, False),
    # Hidden states hold for any temperature, and all of them are kept.
    "top_k": (3, False),
    "temperature": (5.0, False),
}
ONE_BY_ONE = GenerationParameters(batch_size=1)
QUICK = AssistantTrainingParameters(
    optimisation=OptimisationParameters(
        epochs=1, batch_size=3, gradient_accumulation_steps=2, validation=ValidationParameters(max_new_tokens=8)
    )
)


@pytest.mark.parametrize(
    ("parameters", "cases"),
    [
        (OptimisationParameters, OPTIMISATION),
        (BackboneParameters, BACKBONE),
        (GenerationParameters, GENERATION),
        (SoftLabelParameters, SOFT_LABELS),
    ],
)
def test_of_every_parameter_it_is_said_whether_a_result_depends_on_it(parameters, cases):
    assert set(cases) == set(parameters.model_fields)


@pytest.fixture
def parts(role, examples, backbone_parameters):
    """What a training is made from, with some things changed."""

    def made(*, backbone=None, optimisation=None, seed=1, **weights):
        training = StudentTrainingParameters(
            optimisation=OptimisationParameters().model_copy(update=optimisation or {}), **weights
        )
        parameters = backbone_parameters.model_copy(update=backbone or {})
        return made_from(examples, [], None, parameters, "base", training, role.encoder, seed)

    return made


@pytest.mark.parametrize(("name", "value", "counts"), [(n, v, c) for n, (v, c) in OPTIMISATION.items()])
def test_a_training_depends_on_what_changes_its_steps(parts, name, value, counts):
    assert (parts(optimisation={name: value}) != parts()) is counts


@pytest.mark.parametrize(("name", "value", "counts"), [(n, v, c) for n, (v, c) in BACKBONE.items()])
def test_a_training_depends_on_what_changes_its_model(parts, name, value, counts):
    assert (parts(backbone={name: value}) != parts()) is counts


def test_a_training_depends_on_its_objective_and_seed(parts):
    assert parts(weights={"kd_ratio": 0.5}) != parts()
    assert parts(seed=2) != parts()


@pytest.mark.parametrize(("name", "value", "counts"), [(n, v, c) for n, (v, c) in GENERATION.items()])
def test_answers_depend_on_what_changes_their_texts(name, value, counts):
    plain = GenerationParameters()
    assert (plain.model_copy(update={name: value}).result_settings() != plain.result_settings()) is counts


def test_answers_to_one_task_depend_on_its_length_alone():
    plain = GenerationParameters()
    other = plain.model_copy(update={"max_label_tokens": 9})
    assert other.result_settings(("reasoning",)) == plain.result_settings(("reasoning",))
    assert other.result_settings(("label",)) != plain.result_settings(("label",))


def test_answers_of_a_server_depend_on_which_one_answers():
    def settings(**served):
        own = {"base_url": "http://localhost:1/v1", "model": "m", **served}
        return GenerationParameters(backend="served", served=own).result_settings()

    assert settings(model="other") != settings()
    assert settings(base_url="http://localhost:2/v1") != settings()
    assert settings(max_concurrency=3) == settings()


@pytest.mark.parametrize(("name", "value", "counts"), [(n, v, c) for n, (v, c) in SOFT_LABELS.items()])
def test_soft_labels_depend_on_what_changes_the_distributions(name, value, counts):
    plain = SoftLabelParameters()
    assert (plain.model_copy(update={name: value}).result_settings() != plain.result_settings()) is counts
    compact = plain.model_copy(update={"kind": "compact"})
    if name in ("top_k", "temperature"):
        assert compact.model_copy(update={name: value}).result_settings() != compact.result_settings()


@pytest.fixture
def train(posts, reasonings, backbone_parameters, checkpoint, tmp_path):
    """Trains an assistant on the posts, which are those of the dev split too."""
    dev = [post.model_copy(update={"id": f"dev-{post.id}", "split": "dev"}) for post in posts]

    method = MethodParameters(
        input_view=InputView(), tasks=["label", "reasoning"], assistant=True, trained=True, task_weights={}
    )

    def run(training=QUICK, generation=ONE_BY_ONE, backbone=backbone_parameters, base=checkpoint):
        role = ModelParameters(
            backbone=backbone,
            training=training,
            generation=generation,
            inputs=InputParameters(image_size=56),
            method=method,
            seed=1,
        )
        return train_model("assistant", role, [*posts, *dev], teacher_rows(reasonings), None, base, tmp_path)

    return run


def test_what_does_not_change_the_weights_leaves_a_finished_adapter(train, backbone_parameters, checkpoint, tmp_path):
    done = train()
    Kept(tmp_path, "assistant").put(tmp_path / done["folder"])
    (weights,) = (tmp_path / "assistant").glob("*model.safetensors")
    before = weights.stat().st_mtime_ns
    generation = GenerationParameters(batch_size=8, max_new_tokens=64, backend="local")
    other = QUICK.optimisation.model_copy(update={"checkpoint_minutes": 9.0})
    backbone = backbone_parameters.model_copy(update={"gradient_checkpointing": True, "attn_implementation": "eager"})
    # The project was moved: the same base model, in another folder.
    shutil.copytree(checkpoint["location"], tmp_path / "moved")
    base = {**checkpoint, "location": str(tmp_path / "moved")}
    again = train(QUICK.model_copy(update={"optimisation": other}), generation, backbone, base)
    assert again["fingerprint"] == done["fingerprint"]
    assert weights.stat().st_mtime_ns == before


def test_a_training_that_begins_anew_asks_its_dev_posts_anew(train):
    work = Path(train()["folder"]).parent
    for name in ("result", "training"):
        shutil.rmtree(work / name)
    answers = {path: path.read_bytes() for path in work.glob("validation/*/*/unit-*.jsonl")}
    assert answers
    for path in answers:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row["text"] = "of another training"
            # Rows of earlier versions have none.
            del row["hash"]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train()
    assert {path: path.read_bytes() for path in work.glob("validation/*/*/unit-*.jsonl")} == answers


def test_an_adapter_whose_manifest_has_earlier_names_is_found_again(train, tmp_path):
    done = train()
    Kept(tmp_path, "assistant").put(tmp_path / done["folder"])
    for file in sorted(tmp_path.rglob("manifest.json")):
        text = file.read_text()
        for earlier, now in RENAMED.items():
            text = text.replace(f'"{now}":', f'"{earlier}":')
        file.write_text(text)
    written = json.loads((tmp_path / "assistant/manifest.json").read_text())
    assert written["made_from"]["training"]["optimisation"]["accumulation"] == 2
    assert train() == {**done, "folder": str(tmp_path / "assistant")}


def test_fingerprints_are_those_of_earlier_versions():
    training = StudentTrainingParameters(optimisation=OptimisationParameters())
    backbone = BackboneParameters(family="qwen3_vl", model="m", dtype="auto", adapter=AdapterParameters())
    settings = training.model_dump(mode="json")
    for later in ("lr_factor", "lr_factors", "lr_schedule", "checkpoint_minutes"):
        del settings["optimisation"][later]
    settings["optimisation"]["workers"] = 1
    assert fingerprint(settings, backbone) == "37b6b241d1c3c415d514b350bd422ec9"


def test_a_changed_byte_of_a_finished_adapter_is_noticed(train, tmp_path):
    Kept(tmp_path, "assistant").put(tmp_path / train()["folder"])
    (weights,) = (tmp_path / "assistant").glob("*model.safetensors")
    good = weights.read_bytes()
    weights.write_bytes(good[:-100] + bytes(100))
    with pytest.raises(DamagedError, match=r"model\.safetensors is missing or not the file that was written.*original"):
        train()
    weights.write_bytes(good)
    assert train()["folder"] == str(tmp_path / "assistant")


def test_a_loss_that_is_not_finite_ends_the_training_and_leaves_the_finished_adapter(train, tmp_path):
    done = train()
    Kept(tmp_path, "assistant").put(tmp_path / done["folder"])
    before = {path.name: path.read_bytes() for path in (tmp_path / "assistant").iterdir()}
    wild = QUICK.optimisation.model_copy(update={"learning_rate": 1e30, "epochs": 3, "gradient_accumulation_steps": 1})
    with pytest.raises(TrainingError, match=r"assistant: .*nan.* in step \d, of posts p\d.*lower the learning rate"):
        train(QUICK.model_copy(update={"optimisation": wild}))
    assert {path.name: path.read_bytes() for path in (tmp_path / "assistant").iterdir()} == before
    assert train()["fingerprint"] == done["fingerprint"]
