"""Mistakes on the command line: one clear sentence, an exit code that is not 0, nothing half done."""

import pytest


def _refused(result, *words):
    assert result.returncode != 0
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, result.stderr[-3000:]
    assert "Traceback" not in result.stderr + result.stdout
    for word in words:
        assert word in errors[0]


@pytest.mark.parametrize(
    ("pipeline", "parameters", "words"),
    [
        ("data_preparation", "arhc=4", ("arhc", '"arch"')),
        ("data_preparation", "arch=9", ("arch=9", "1, 2, 3, 4")),
        ("data_preparation", "scale=huge", ("scale=huge", "tiny")),
        ("data_preparation", "ingest.max_rejected_shar=0.1", ("max_rejected_shar",)),
        ("data_preparation", "limit=0", ("limit",)),
        ("teacher_annotation", "teacher.provider=oracle", ("provider",)),
        ("assistant_training", "assistant_training.optimisation.epochs=0", ("epochs",)),
        ("data_preparation", "dataset=twitter2015", ("data/01_raw/twitter2015",)),
        ("data_preparation", "raw_dir=nowhere", ("nowhere",)),
        ("student_distillation", "arch=4", ("missing", "kedro run --pipeline data_preparation")),
    ],
)
def test_a_mistake_is_one_sentence(kedro, pipeline, parameters, words):
    _refused(kedro("run", "--pipeline", pipeline, "--params", parameters), *words)


def test_missing_weights_and_missing_stages_are_named(kedro, project):
    small = "limit=3"
    assert kedro("run", "--pipeline", "data_preparation", "--params", small).returncode == 0
    _refused(kedro("run", "--pipeline", "evaluation", "--params", small), "missing", "kedro run --pipeline")
    annotated = kedro("run", "--pipeline", "teacher_annotation", "--params", f"{small},scale=full")
    assert annotated.returncode == 0, annotated.stderr[-2000:]
    _refused(
        kedro("run", "--pipeline", "assistant_training", "--params", f"{small},scale=full"),
        "Qwen/Qwen2.5-VL-7B-Instruct",
        "hf download",
    )
    _refused(kedro("run", "--pipeline", "data_expansion", "--params", small), "--pipeline teacher_annotation")


def test_the_rejected_rows_are_written_before_the_run_stops(kedro, project):
    posts = project / "data/01_raw/sample/posts.csv"
    lines = posts.read_text(encoding="utf-8").splitlines(keepends=True)
    broken = [line.replace(".jpg", "-gone.jpg") if number % 4 == 0 else line for number, line in enumerate(lines)]
    posts.write_text("".join(broken), encoding="utf-8")
    _refused(kedro("run", "--pipeline", "data_preparation"), "rejected.csv")
    assert (project / "data/03_primary/sample/rejected.csv").read_text().count("gone.jpg") > 100
    assert not (project / "data/03_primary/sample/posts.parquet").exists()
