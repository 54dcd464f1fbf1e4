"""All pipelines on a few posts of the sample, and what a finished run is safe from."""

import json
from pathlib import Path

import pandas as pd
import pytest

from mulcot_rd.fingerprint import file_fingerprint
from mulcot_rd.versions import newest
from tests.project.conftest import RUN, SMALL, UP_TO_METRICS, current, run

pytestmark = pytest.mark.slow

RESULTS = (
    f"data/06_models/{RUN}/assistant/adapter_model.safetensors",
    f"data/06_models/{RUN}/student/adapter_model.safetensors",
    f"data/05_model_input/{RUN}/teacher_reasoning.jsonl",
    f"data/05_model_input/{RUN}/assistant_reasoning.jsonl",
    f"data/07_model_output/{RUN}/assistant_test.jsonl",
    f"data/07_model_output/{RUN}/student_test.jsonl",
    f"data/08_reporting/{RUN}/metrics.json",
)


def test_every_path_of_the_contract_is_there(undisturbed):
    for path in (
        *RESULTS,
        "data/03_primary/sample/posts.parquet",
        "data/03_primary/sample/rejected.csv",
        f"data/05_model_input/{RUN}/teacher_references.jsonl",
        *(f"data/06_models/{RUN}/{role}/manifest.json" for role in ("assistant", "student")),
        *(f"data/06_models/{RUN}/{role}/tokenizer.json" for role in ("assistant", "student")),
        *(f"data/06_models/{RUN}/{role}/adapter_config.json" for role in ("assistant", "student")),
        f"data/08_reporting/{RUN}/config.yml",
        f"data/08_reporting/{RUN}/result_table.md",
        f"data/08_reporting/{RUN}/case_study.html",
        f"data/08_reporting/{RUN}/report.html",
        f"data/08_reporting/{RUN}/training_curves.png",
        f"data/08_reporting/{RUN}/confidence.png",
        f"data/08_reporting/{RUN}/efficiency.json",
        f"data/06_models/{RUN}/calibration.json",
        *(
            f"data/08_reporting/tables/table_{n}.{kind}"
            for n in (1, 3, 4, 5, 6, 7, 8, 10, 11, 12, "scores", "seeds", "comparisons")
            for kind in ("md", "csv", "tex")
        ),
        *(f"data/08_reporting/figures/figure_{n}.{kind}" for n in (3, 5) for kind in ("png", "svg")),
    ):
        assert current(undisturbed / path).is_file(), path
    for role in ("assistant", "student"):
        card = current(undisturbed / f"data/06_models/{RUN}/{role}/README.md").read_text()
        assert card.count(f"# MulCoT-RD {role}\n") == 1
        assert "More Information Needed" not in card


def test_splits_stay_apart(undisturbed):
    posts = pd.read_parquet(current(undisturbed / "data/03_primary/sample/posts.parquet"))
    split = dict(zip(posts["id"], posts["split"], strict=True))
    # The run loads twelve of each split; the file is the data set's.
    assert posts["split"].value_counts().to_dict() == {"train": 400, "dev": 80, "test": 120}
    metrics = json.loads(current(undisturbed / f"data/08_reporting/{RUN}/metrics.json").read_text())
    assert {split: metrics["dataset"][split] for split in ("train", "dev", "test")} == {
        "train": 12,
        "dev": 12,
        "test": 12,
    }
    folder = undisturbed / f"data/05_model_input/{RUN}"

    def splits(name, key):
        lines = current(folder / name).read_text(encoding="utf-8").splitlines()
        return {split[json.loads(line)[key]] for line in lines}

    assert splits("teacher_reasoning.jsonl", "id") == {"train"}
    assert splits("student_training_set.jsonl", "post_id") == {"train"}
    assert splits("assistant_reasoning.jsonl", "id") <= {"train"}
    assert splits("teacher_references.jsonl", "id") == {"test"}


def test_the_metrics_have_the_contracts_names(undisturbed):
    metrics = json.loads(current(undisturbed / f"data/08_reporting/{RUN}/metrics.json").read_text())
    names = {
        *("accuracy", "weighted_f1", "macro_f1", "majority_accuracy", "valid_rate", "agreement"),
        *("sim", "meteor", "bleu", "rouge_l", "dist_1", "dist_2"),
    }
    for role in ("assistant", "student"):
        assert names <= set(metrics[role])
        assert all(-1 <= metrics[role][name] <= 1 for name in names)
    expansion = json.loads((undisturbed / f"data/08_reporting/{RUN}/expansion.json").read_text())
    rows = metrics["dataset"]["train"] + expansion["kept"]
    assert metrics["dataset"]["train_plus"] == rows


def test_tiny_runs_are_named_as_such(undisturbed):
    assert (
        "tiny model, random initial weights" in (undisturbed / f"data/08_reporting/{RUN}/result_table.md").read_text()
    )


def test_a_finished_run_is_left_as_it_is_in_another_place_and_with_another_batch_size(undisturbed, finished):
    before = {path: current(finished / path).stat().st_mtime_ns for path in RESULTS[:2]}
    parameters = SMALL.replace("generation.batch_size=1", "generation.batch_size=7")
    result = run(finished, *UP_TO_METRICS, "--params", parameters)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "epoch 1" not in result.stderr
    assert "made anew" not in result.stderr
    # Of what a user can do nothing about, nothing is said.
    (warned,) = [line for line in result.stderr.splitlines() if "WARNING" in line]
    assert warned.endswith("kept 0 of 12 reasonings of the assistant; 0 come to a wrong label, 12 are incomplete")
    assert {path: current(finished / path).stat().st_mtime_ns for path in RESULTS[:2]} == before
    for path in RESULTS:
        versions = finished / path if newest(finished / path) != finished / path else (finished / path).parent
        assert len(list(versions.iterdir())) == 1
    assert not list((finished / f"data/06_models/{RUN}/work").rglob("*.safetensors"))
    assert fingerprints(finished) == fingerprints(undisturbed)


def test_the_page_of_a_run_says_what_it_was_made_of_and_the_last_line_of_the_log_names_it(undisturbed, finished):
    page = (undisturbed / f"data/08_reporting/{RUN}/report.html").read_text(encoding="utf-8")
    chain = page[page.index('id="origin"') :]
    assert "by evaluation.score_run" in chain
    assert "by data_preparation." in chain
    result = run(finished, "--pipeline", "reporting", "--params", SMALL)
    assert result.returncode == 0, result.stderr[-2000:]
    report = finished / f"data/08_reporting/{RUN}/report.html"
    assert result.stderr.splitlines()[-1].endswith(f"report of the run: {report}")


def test_another_run_overwrites_nothing(undisturbed, finished):
    result = run(finished, "--pipelines", "teacher_annotation,assistant_training", "--params", f"{SMALL},arch=1")
    assert result.returncode == 0, result.stderr[-2000:]
    assert current(finished / "data/06_models/sample/arch1-tiny-full/assistant/manifest.json").exists()
    assert fingerprints(finished) == fingerprints(undisturbed)


def fingerprints(project: Path) -> dict[str, str]:
    return {path: file_fingerprint(current(project / path)) for path in RESULTS}


def test_other_posts_and_another_backbone_are_refused(undisturbed, finished):
    """A test split drawn anew may hold training posts; an adapter fits the backbone it was trained on alone."""
    result = run(finished, "--pipeline", "evaluation", "--params", f"{SMALL},arch=1,run=arch4-tiny-full")
    assert result.returncode != 0
    assert "Error: the assistant in" in result.stderr
    assert "another backbone" in result.stderr
    for stage, words in (
        ("evaluation", "trained on inputs of another image_size"),
        ("student_distillation", "made of inputs of another image_size"),
    ):
        result = run(finished, "--pipeline", stage, "--params", f"{SMALL},inputs.image_size=84")
        assert result.returncode != 0
        assert words in result.stderr
    assert fingerprints(finished) == fingerprints(undisturbed)


def test_no_start_puts_a_run_beside_other_posts(undisturbed, finished):
    """Whatever is run, with whatever limit or raw data: what was made from other posts is refused, and stays."""
    fewer = SMALL.replace("limit=12", "limit=8")
    training = "assistant_training.train_assistant"
    for start, parameters, words in (
        (("--from-nodes", training, "--to-nodes", training), fewer, "not in the training split"),
        (("--pipeline", "student_distillation"), SMALL.replace("limit=12", "limit=14"), "no row of post"),
        (("--pipeline", "evaluation"), fewer, "training and dev posts at hand are not those"),
        (("--nodes", "evaluation.score_run"), fewer, "not in the test split"),
        (("--pipeline", "reporting"), fewer, "other posts than those at hand"),
    ):
        _refused_as_stale(finished, start, parameters, words)
    raw = finished / "data/01_raw/sample/posts.csv"
    first, *rest = raw.read_text(encoding="utf-8").split("\n")
    row = next(number for number, line in enumerate(rest) if ",train," in line)
    label = rest[row].rsplit(",", 1)[1]
    rest[row] = rest[row].replace(label, "neutral" if label != "neutral" else "positive")
    raw.write_text("\n".join([first, *rest]), encoding="utf-8")
    assert run(finished, "--pipeline", "data_preparation", "--params", "run=other").returncode == 0
    _refused_as_stale(finished, ("--nodes", training), SMALL, "has another text, aspect, image or label now")
    assert fingerprints(finished) == fingerprints(undisturbed)


def _refused_as_stale(project, start, parameters, words):
    result = run(project, *start, "--params", parameters)
    assert result.returncode != 0
    (said,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert words in said
    assert "Traceback" not in result.stderr


def test_a_trial_with_a_limit_changes_nothing_for_a_whole_run(finished):
    posts = current(finished / "data/03_primary/sample/posts.parquet")
    before = posts.stat().st_mtime_ns
    result = run(finished, "--pipelines", "data_preparation,teacher_annotation", "--params", "limit=3,run=trial")
    assert result.returncode == 0, result.stderr[-2000:]
    assert posts.stat().st_mtime_ns == before
    assert current(finished / "data/03_primary/sample/posts.parquet") == posts
    for name in ("reasoning", "references"):
        file = current(finished / f"data/05_model_input/sample/trial/teacher_{name}.jsonl")
        assert file.read_text(encoding="utf-8").count("\n") == 3
    result = run(finished, "--pipeline", "reporting", "--params", SMALL)
    assert result.returncode == 0, result.stderr[-2000:]
    metrics = json.loads(current(finished / f"data/08_reporting/{RUN}/metrics.json").read_text())
    assert metrics["run"]["limit"] == 12
