"""Every kind of variant walks through all pipelines, and its outputs say what it did without."""

import json

import pytest

from tests.project.conftest import FAST, current
from tests.teacher.fault_server import FaultServer, sections, text_of, written

pytestmark = pytest.mark.slow

RUN = "data/{}/sample/arch4-tiny-{}"


def read(project, layer, variant, file):
    return json.loads(current(project / RUN.format(layer, variant) / file).read_text())


def rows(project, layer, variant, file):
    return [json.loads(line) for line in current(project / RUN.format(layer, variant) / file).read_text().splitlines()]


def walk(kedro, variant, *further):
    result = kedro("run", "--params", ",".join([FAST, f"variant={variant}", *further]))
    assert result.returncode == 0, result.stderr[-3000:]


def test_no_cot_learns_and_answers_labels_alone(project, kedro):
    walk(kedro, "no_cot")
    history = rows(project, "06_models", "no_cot", "student/history.jsonl")
    steps = [row for row in history if "label_loss" in row]
    assert steps
    assert not any("reasoning_loss" in row for row in history)
    assert all("label_soft_loss" in row for row in steps)
    assert read(project, "06_models", "no_cot", "student/manifest.json")["validation"]["tasks"] == ["label"]
    assert not rows(project, "05_model_input", "no_cot", "assistant_reasoning.jsonl")
    predictions = rows(project, "07_model_output", "no_cot", "student_test.jsonl")
    assert all(row["attempts"] == 0 and row["label_attempts"] >= 1 and row["raw_text"] == "" for row in predictions)
    student = read(project, "08_reporting", "no_cot", "metrics.json")["student"]
    assert student["accuracy"] is not None
    assert student["agreement"] is student["sim"] is student["dist_1"] is None
    # Nor has it any of preference optimisation.
    files = {path.name for path in (project / "data").rglob("[!.]*") if path.is_file()}
    tables = {f"table_preference.{kind}" for kind in ("csv", "md", "tex")}
    assert {name for name in files if "preference" in name} == tables
    assert "student_samples.jsonl" not in files


def test_no_assistant_has_neither_soft_labels_nor_expansion(project, kedro):
    walk(kedro, "no_assistant")
    steps = rows(project, "06_models", "no_assistant", "student/history.jsonl")
    assert any("reasoning_loss" in row for row in steps)
    assert not any("label_soft_loss" in row for row in steps)
    assert read(project, "06_models", "no_assistant", "assistant/manifest.json")["trained"] is False
    training_set = rows(project, "05_model_input", "no_assistant", "student_training_set.jsonl")
    assert {row["source"] for row in training_set} == {"teacher"}
    metrics = read(project, "08_reporting", "no_assistant", "metrics.json")
    assert metrics["assistant"] is None
    assert metrics["student"]["accuracy"] is not None


def test_preference_optimisation_follows_distillation(project, kedro):
    training = "preference.training.optimisation"
    walk(kedro, "preference", f"{training}.epochs=1", f"{training}.validation.max_new_tokens=24")
    pairs = rows(project, "05_model_input", "preference", "preference_pairs.jsonl")
    assert pairs
    assert all(pair["margin"] > 0 and pair["chosen_checks"]["label_right"] == 1 for pair in pairs)
    training = {row["post_id"] for row in rows(project, "05_model_input", "preference", "student_training_set.jsonl")}
    assert {pair["post_id"] for pair in pairs} <= training
    history = rows(project, "06_models", "preference", "student_preference/history.jsonl")
    assert all("reward_margin" in row or "score" in row for row in history)
    assert read(project, "06_models", "preference", "student_preference/manifest.json")["training_rows"] == len(pairs)
    metrics = read(project, "08_reporting", "preference", "metrics.json")
    assert metrics["student"]["accuracy"] is not metrics["student_preference"]["accuracy"] is not None
    tables = project / "data" / "08_reporting" / "tables"
    for table in ("table_4", "table_scores", "table_quality", "table_comparisons"):
        assert "student_preference" in (tables / f"{table}.csv").read_text(), table
    kinds = (tables / "table_preference.csv").read_text()
    assert all(kind in kinds for kind in ("sampled", "assistant", "teacher"))
    # The delivered student is the last one.
    assert kedro("run", "--pipeline", "delivery", "--params", f"{FAST},variant=preference").returncode == 0
    assert read(project, "06_models", "preference", "student_merged/manifest.json")["role"] == "student_preference"


def test_zero_shot_trains_nothing_and_asks_the_prediction_prompt(project, kedro):
    walk(kedro, "zero_shot")
    assert not list((project / RUN.format("06_models", "zero_shot")).rglob("adapter_model.safetensors"))
    for role in ("assistant", "student"):
        predictions = rows(project, "07_model_output", "zero_shot", f"{role}_test.jsonl")
        assert all(row["label_attempts"] == 0 and row["attempts"] >= 1 for row in predictions)
        assert all(row["prediction"] == row["reasoning_prediction"] for row in predictions)
    metrics = read(project, "08_reporting", "zero_shot", "metrics.json")
    assert metrics["assistant"]["accuracy"] is not None
    assert metrics["assistant"]["agreement"] is None


def test_a_served_base_model_answers_once_and_under_its_own_name(project, kedro):
    """Such as the 72B teacher's starred row: one model in place of both roles, and no weights here."""
    answer = written(sections("positive"), "positive")
    with FaultServer(reply=lambda body: answer, models=("big-one",)).running() as server:
        keys = f'openai: {{servers: {{"{server.url}": {{api_key: secret}}}}}}'
        (project / "conf" / "local" / "credentials.yml").write_text(keys, encoding="utf-8")
        served = f"generation.backend=served,generation.served.base_url={server.url},generation.served.model=big-one"
        result = kedro("run", "--params", f"{FAST},variant=zero_shot,run=big-one,{served}")
    assert result.returncode == 0, result.stderr[-3000:]
    assert len(server.requests) == 12
    assert all(
        "image_url" in str(body["messages"]) and "Prediction" in text_of(body["messages"][0])
        for body in server.requests
    )
    assert all(logged.authorised for logged in server.log)
    reports = project / "data" / "08_reporting"
    metrics = json.loads(current(reports / "sample" / "big-one" / "metrics.json").read_text())
    assert metrics["run"]["served"] == "big-one"
    assert metrics["assistant"]["accuracy"] == metrics["assistant"]["reasoning_accuracy"]
    assert metrics["student"] is None
    assert json.loads(current(reports / "sample" / "big-one" / "efficiency.json").read_text()) == {}
    (row,) = [line for line in (reports / "tables" / "table_4.csv").read_text().splitlines() if "served" in line]
    assert row.startswith("big-one (zero-shot),big-one,")
    assert "tiny" not in row


def test_without_images_no_run_depends_on_them(project, kedro):
    walk(kedro, "no_image")
    first = current(project / RUN.format("07_model_output", "no_image") / "student_test.jsonl").read_text()
    assert read(project, "08_reporting", "no_image", "metrics.json")["student"]["sim"] is not None
    assert first


@pytest.mark.parametrize("variant", ["no_images", "weights_0.5_0.5"])
def test_an_unknown_variant_is_refused(kedro, variant):
    result = kedro("run", "--params", f"variant={variant}")
    assert result.returncode == 1
    assert f"variant={variant} does not exist; there are: full, no_image, no_text, no_cot" in result.stderr
