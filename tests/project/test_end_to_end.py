"""The whole walk on a few posts of the sample, undisturbed and killed at every stage."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd

from mulcot_rd.fingerprint import file_fingerprint
from mulcot_rd.versions import newest
from tests.project.conftest import SMALL, command, current, environment, make_project, run

RUN = "sample/arch4-tiny-full"
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


def test_a_finished_run_is_left_as_it_is(undisturbed):
    before = {path: current(undisturbed / path).stat().st_mtime_ns for path in RESULTS[:2]}
    wanted = _fingerprints(undisturbed)
    result = run(undisturbed, "--params", SMALL)
    assert result.returncode == 0
    assert "epoch 1" not in result.stderr
    assert {path: current(undisturbed / path).stat().st_mtime_ns for path in RESULTS[:2]} == before
    for path in RESULTS:
        versions = (
            undisturbed / path if newest(undisturbed / path) != undisturbed / path else (undisturbed / path).parent
        )
        assert len(list(versions.iterdir())) == 1
    assert not list((undisturbed / f"data/06_models/{RUN}/work").rglob("*.safetensors"))
    assert _fingerprints(undisturbed) == wanted


def test_a_moved_project_goes_on_and_a_former_parameter_finds_its_student_again(undisturbed, tmp_path):
    """A new place or a batch size makes nothing anew; another rate makes a student beside the one that is there."""
    project = tmp_path / "another" / "place"
    shutil.copytree(undisturbed, project)
    wanted = _fingerprints(undisturbed)
    result = run(project, "--params", f"{SMALL.replace('generation.batch_size=1', 'generation.batch_size=7')}")
    assert result.returncode == 0, result.stderr[-2000:]
    assert "epoch 1" not in result.stderr
    assert "anew" not in result.stderr
    assert _fingerprints(project) == wanted
    result = run(project, "--params", f"{SMALL},student_training.optimisation.learning_rate=0.001")
    assert result.returncode == 0, result.stderr[-2000:]
    assert "student: made anew" in result.stderr
    assert "training.optimisation.learning_rate: 0.003 -> 0.001" in result.stderr
    assert "assistant, epoch" not in result.stderr
    assert _fingerprints(project) != wanted
    result = run(project, "--params", SMALL)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "epoch 1" not in result.stderr
    assert _fingerprints(project) == wanted


def test_another_run_overwrites_nothing(undisturbed):
    wanted = _fingerprints(undisturbed)
    for arch in (1, 2, 3):
        result = run(undisturbed, "--pipeline", "teacher_annotation", "--params", f"{SMALL},arch={arch}")
        assert result.returncode == 0, result.stderr[-2000:]
    result = run(undisturbed, "--pipeline", "assistant_training", "--params", f"{SMALL},arch=1")
    assert result.returncode == 0, result.stderr[-2000:]
    assert current(undisturbed / "data/06_models/sample/arch1-tiny-full/assistant/manifest.json").exists()
    assert _fingerprints(undisturbed) == wanted


def _fingerprints(project: Path) -> dict[str, str]:
    return {path: file_fingerprint(current(project / path)) for path in RESULTS}


def _steps(project: Path, role: str) -> int:
    states = (project / f"data/06_models/{RUN}/work/{role}").glob("*/training/checkpoint/state.json")
    return max((json.loads(state.read_text())["step"] for state in states), default=0)


def _lines(folder: Path) -> int:
    return sum(path.read_text(encoding="utf-8").count("\n") for path in folder.rglob("*.jsonl"))


MOMENTS = {
    "the assistant's training": lambda p: _steps(p, "assistant") >= 2,
    "data expansion": lambda p: _lines(p / f"data/05_model_input/{RUN}/work/expansion") >= 6,
    "soft labels": lambda p: any(
        (p / f"data/05_model_input/{RUN}/work/soft_labels").glob("*/result/shard-00000.safetensors")
    ),
    "the student's distillation": lambda p: _steps(p, "student") >= 1,
    "evaluation": lambda p: _lines(p / f"data/07_model_output/{RUN}/work/student_test") >= 6,
}


def test_a_run_killed_in_every_long_node_ends_as_an_undisturbed_one(undisturbed, tmp_path):
    """SIGKILL once in each long node, a random while after its first result; the same command goes on."""
    project = make_project(tmp_path / "project")
    generator = random.Random(0)
    for moment, reached in MOMENTS.items():
        process = subprocess.Popen(
            command("run", "--params", SMALL),
            cwd=project,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 300
        while not reached(project) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(generator.random() * 0.2)
        assert process.poll() is None, f"the run ended before it could be killed in {moment}"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    result = run(project, "--params", SMALL)
    assert result.returncode == 0, result.stderr[-4000:]
    assert _fingerprints(project) == _fingerprints(undisturbed)


def test_other_posts_and_another_backbone_are_refused(undisturbed, tmp_path):
    """A test split drawn anew may hold training posts; an adapter fits the backbone it was trained on alone."""
    project = tmp_path / "copy"
    shutil.copytree(undisturbed, project)
    result = run(project, "--pipeline", "evaluation", "--params", f"{SMALL},arch=1,run=arch4-tiny-full")
    assert result.returncode != 0
    assert "Error: the assistant in" in result.stderr
    assert "another backbone" in result.stderr
    for stage, words in (
        ("evaluation", "trained on inputs of another image_size"),
        ("student_distillation", "made of inputs of another image_size"),
    ):
        result = run(project, "--pipeline", stage, "--params", f"{SMALL},inputs.image_size=84")
        assert result.returncode != 0
        assert words in result.stderr
    assert _fingerprints(project) == _fingerprints(undisturbed)


def test_no_start_puts_a_run_beside_other_posts(undisturbed, tmp_path):
    """Whatever is run, with whatever limit or raw data: what was made from other posts is refused, and stays."""
    project = tmp_path / "copy"
    shutil.copytree(undisturbed, project)
    fewer = SMALL.replace("limit=12", "limit=8")
    training = "assistant_training.train_assistant"
    for start, parameters, words in (
        (("--from-nodes", training, "--to-nodes", training), fewer, "not in the training split"),
        (("--pipeline", "student_distillation"), SMALL.replace("limit=12", "limit=14"), "no row of post"),
        (("--pipeline", "evaluation"), fewer, "training and dev posts at hand are not those"),
        (("--nodes", "evaluation.score_run"), fewer, "not in the test split"),
        (("--pipeline", "reporting"), fewer, "other posts than those at hand"),
    ):
        _refused_as_stale(project, start, parameters, words)
    raw = project / "data/01_raw/sample/posts.csv"
    first, *rest = raw.read_text(encoding="utf-8").split("\n")
    row = next(number for number, line in enumerate(rest) if ",train," in line)
    label = rest[row].rsplit(",", 1)[1]
    rest[row] = rest[row].replace(label, "neutral" if label != "neutral" else "positive")
    raw.write_text("\n".join([first, *rest]), encoding="utf-8")
    assert run(project, "--pipeline", "data_preparation", "--params", "run=other").returncode == 0
    _refused_as_stale(project, ("--nodes", training), SMALL, "has another text, aspect, image or label now")
    assert _fingerprints(project) == _fingerprints(undisturbed)


def _refused_as_stale(project, start, parameters, words):
    result = run(project, *start, "--params", parameters)
    assert result.returncode != 0
    (said,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert words in said
    assert "Traceback" not in result.stderr


def test_a_trial_with_a_limit_changes_nothing_for_a_whole_run(undisturbed, tmp_path):
    project = tmp_path / "copy"
    shutil.copytree(undisturbed, project)
    posts = current(project / "data/03_primary/sample/posts.parquet")
    before = posts.stat().st_mtime_ns
    result = run(project, "--pipelines", "data_preparation,teacher_annotation", "--params", "limit=3,run=trial")
    assert result.returncode == 0, result.stderr[-2000:]
    assert posts.stat().st_mtime_ns == before
    assert current(project / "data/03_primary/sample/posts.parquet") == posts
    for name in ("reasoning", "references"):
        file = current(project / f"data/05_model_input/sample/trial/teacher_{name}.jsonl")
        assert file.read_text(encoding="utf-8").count("\n") == 3
    result = run(project, "--pipeline", "reporting", "--params", SMALL)
    assert result.returncode == 0, result.stderr[-2000:]
    metrics = json.loads(current(project / f"data/08_reporting/{RUN}/metrics.json").read_text())
    assert metrics["run"]["limit"] == 12
