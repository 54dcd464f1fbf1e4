"""The model card says what is known of a model, and nothing else."""

import json
import shutil
from copy import deepcopy

import pytest
import yaml
from huggingface_hub import ModelCard

from mulcot_rd.kept import DamagedError, read_manifest
from mulcot_rd.models.card import model_card
from mulcot_rd.models.evaluation import find_evaluation
from mulcot_rd.models.export import export_model
from mulcot_rd.models.loaded import load_encoder, model_identity
from mulcot_rd.schema import TemperatureRecord

# One that sees images, and one that reads captions and is trained whole.
pytestmark = pytest.mark.parametrize("family_name", ["qwen2_5_vl", "flan_t5"], indirect=True, scope="session")

METRICS = {
    "run": {
        **{"dataset": "own", "run": "arch4", "arch": 4, "variant": "full", "teacher": "a teacher"},
        **{"aspects": True, "captions": None, "limit": None, "served": None},
    },
    "dataset": {"train": 40, "dev": 8, "test": 12, "train_plus": 70},
    "student": {"accuracy": 0.75, "sim": None, "meteor": 0.5, "intervals": {"accuracy": [0.5, 0.95]}},
}


@pytest.fixture
def manifest(student):
    return read_manifest(student)


@pytest.fixture
def evaluation():
    return {"run": METRICS["run"], "dataset": METRICS["dataset"], "scores": METRICS["student"]}


def _write_run(root, student, *, metrics=METRICS, fingerprint=None, version="2026-01-01"):
    """A student in its run's folder with versions of its metrics."""
    model = root / "06_models" / "own" / "arch4" / "student"
    if not model.exists():
        shutil.copytree(student, model)
        shutil.copytree(student.parent / "base", model.parent / "base")
    reports = root / "08_reporting" / "own" / "arch4"
    config = {"student": {"fingerprint": fingerprint or read_manifest(student)["fingerprint"]}}
    files = {"config.yml": yaml.safe_dump(config), "metrics.json": json.dumps(metrics)}
    for name, text in files.items():
        path = reports / name / version / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    record = {"inputs": {"run_config": {"version": version}}}
    (reports / "metrics.json" / version / "made_from.json").write_text(json.dumps(record))
    return model


def test_an_exported_model_has_the_scores_of_its_run(student, evaluation, family_name, tmp_path):
    export_model(student, tmp_path / "out", evaluation=evaluation)
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.datasets == ["own"]
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == ("image-text-to-text" if family_name == "qwen2_5_vl" else None)
    assert card.data.base_model is None
    assert "| accuracy | 75.0 | 50.0 to 95.0 |\n| meteor | 50.0 |  |\n" in card.text
    assert "On 12 test posts" in card.text
    assert "| teacher | a teacher |" in card.text
    assert "**This is a tiny model.**" in card.text
    assert "None" not in card.text
    assert "prompt_label.txt, prompt_label_aspect.txt, prompt_reasoning.txt, prompt_reasoning_aspect.txt" in card.text
    assert "`<|`\nbecomes `< |`, and then each special token" in card.text
    assert ("turned upright by their EXIF orientation and laid over white" in card.text) == (family_name != "flan_t5")
    assert ('"Prediction": or "Text_analysis":.' in card.text) == (family_name == "flan_t5")
    # Exported once more it has them still.
    assert find_evaluation(tmp_path / "out") == evaluation


def test_a_trained_model_that_was_not_evaluated_says_so(student, manifest, tmp_path):
    export_model(student, tmp_path / "out", evaluation=None)
    exported = (tmp_path / "out" / "README.md").read_text()
    assert "Not evaluated: there were no metrics of this model beside it" in exported
    trained = model_card(manifest, load_encoder(student))
    assert "Training writes this card, so it has no scores yet." in trained
    assert trained == model_card(manifest, load_encoder(student))
    for text in (exported, trained):
        assert "teacher |" not in text
        assert "calibrated" not in text


@pytest.mark.parametrize(
    ("about", "sentence"),
    [
        (["aspect"], "of a post toward an aspect: positive"),
        (["post"], "of a post: positive"),
        (["aspect", "post"], "of a post, or its sentiment toward an aspect: positive"),
    ],
)
def test_the_card_asks_as_training_asked(student, manifest, evaluation, about, sentence):
    for scored in ({}, {"evaluation": evaluation}):
        card = model_card({**manifest, **scored, "asked_about": about}, load_encoder(student))
        assert f"This model judges the sentiment {sentence}" in card
        assert (', aspect="..."' in card) == ("aspect" in about)


def test_the_licence_is_the_base_models_where_its_checkpoint_names_one(student, manifest, tmp_path):
    base = deepcopy(manifest)
    base["config"]["backbone"]["model"] = "owner/some-model"
    card = ModelCard(model_card(base, load_encoder(student)))
    assert card.data.base_model == "owner/some-model"
    assert "See the licence of the base model, owner/some-model." in card.text
    assert "tiny" not in card.text
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    base["config"]["backbone"]["model"] = str(tmp_path)
    card = ModelCard(model_card(base, load_encoder(student)))
    assert (card.data.license, card.data.base_model) == ("mit", None)
    assert f"The base model, {tmp_path.name}, has the licence mit." in card.text
    assert str(tmp_path) not in card.text


def test_metrics_are_those_of_the_model(student, tmp_path):
    model = _write_run(tmp_path, student)
    assert find_evaluation(model)["scores"] == METRICS["student"]
    _write_run(tmp_path, student, fingerprint="another student's", version="2026-01-02")
    assert find_evaluation(model)["scores"] == METRICS["student"]
    newer = {**METRICS, "student": {"accuracy": 0.8}}
    _write_run(tmp_path, student, metrics=newer, version="2026-01-03")
    assert find_evaluation(model)["scores"] == {"accuracy": 0.8}


def test_a_model_without_a_run_has_no_metrics(student, tmp_path):
    assert find_evaluation(student) is None
    model = _write_run(tmp_path, student, fingerprint="another student's")
    assert find_evaluation(model) is None


def test_the_calibration_is_told(student, manifest, evaluation):
    temperature = TemperatureRecord(model=model_identity(manifest), role="student", temperature=1.5)
    errors = {"expected_calibration_error": 0.01, "expected_calibration_error_uncalibrated": 0.02}
    scored = {**manifest, "evaluation": {**evaluation, "scores": {**evaluation["scores"], **errors}}}
    told = model_card(scored, load_encoder(student), temperature)
    assert "calibrated on the dev split: temperature 1.500.\n" in told
    assert "calibration error on the test split is 0.010, and 0.020 without the temperature.\n" in told
    assert "calibration error" not in model_card(manifest, load_encoder(student), temperature)


def test_damaged_metrics_are_named(student, tmp_path):
    model = _write_run(tmp_path, student)
    damaged = tmp_path / "08_reporting" / "own" / "arch4" / "metrics.json" / "2026-01-01" / "metrics.json"
    damaged.write_text("{")
    with pytest.raises(DamagedError, match=r"metrics\.json is not valid JSON .*: run the pipeline evaluation again"):
        find_evaluation(model)
