"""A dry run: the report in place of the run, for any pipeline, environment, scale and limit."""

import re

import pytest

pytestmark = pytest.mark.slow


def numbers(output, name):
    """The cells of the report's line that begins with a name."""
    (line,) = [line for line in output.splitlines() if line.startswith(name)]
    return re.split(r" {2,}", line.strip())[1:]


def test_a_dry_run_says_what_a_run_takes_and_does_nothing(project, kedro):
    result = kedro("run", "--params", "dry_run=true,limit=12")
    assert result.returncode == 0, result.stderr
    out = result.stdout
    assert "posts: train 12, dev 12, test 12 (raw data in data/01_raw, images not opened)" in out
    assert re.search(r"training rows: assistant 12, student \d+ \(assumption for N_a: ", out)
    assert {f"{arch}" for arch in range(1, 7)} <= {line.split("  ")[0] for line in out.splitlines()}
    assert [path for path in (project / "data").iterdir() if path.name != "01_raw"] == []


@pytest.mark.parametrize("pipeline", ["teacher_annotation", "evaluation", "reporting"])
def test_a_dry_run_of_one_pipeline_of_the_papers_models_needs_no_weights(kedro, pipeline):
    server = "teacher.provider=openai,teacher.base_url=http://127.0.0.1:9/v1,teacher.model=gpt-4o-mini,judge.posts=5"
    params = f"dry_run=true,arch=1,limit=20,dataset=sample,{server}"
    result = kedro("run", "--env", "workstation", "--pipeline", pipeline, "--params", params)
    assert result.returncode == 0, result.stderr
    out = result.stdout
    assert numbers(out, "trained ")[-2:] == ["43,646,976", "17,432,576"]
    assert ("server, reasonings:" in out) == (pipeline == "teacher_annotation")
    assert ("server, judge:" in out) == (pipeline == "evaluation")
    assert "assistant_training" not in out


def test_a_dry_run_without_data_takes_the_papers_numbers_and_says_what_comes_first(kedro):
    result = kedro("run", "--env", "workstation", "--params", "dry_run=true,arch=6,dataset=twitter2017,limit=1200")
    assert result.returncode == 0, result.stderr
    assert "posts: train 1,200, dev 1,176, test 1,200 (numbers of Table 1, texts of 85 characters" in result.stdout
    assert "run `kedro run --pipeline data_preparation` first" in result.stdout
    result = kedro("run", "--params", "dry_run=true,dataset=mine")
    assert result.returncode != 0
    assert "run `kedro run --pipeline data_preparation` first" in " ".join(result.stderr.split())


def test_a_wrong_assumption_is_named(kedro):
    result = kedro("run", "--params", "dry_run=true,dry_run_settings.device.tflops=-1")
    assert result.returncode != 0
    (said,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert "device.tflops" in said and "(given: -1)" in said


def test_the_teachers_price_is_that_of_its_own_dry_run(project, kedro):
    params = "teacher.provider=openai,teacher.base_url=http://127.0.0.1:9/v1,arch=2,limit=30"
    assert kedro("run", "--pipeline", "data_preparation").returncode == 0
    own = kedro("run", "--pipeline", "teacher_annotation", "--params", f"{params},teacher.dry_run=true")
    whole = kedro("run", "--pipeline", "teacher_annotation", "--params", f"{params},dry_run=true")
    for row in ("least", "expected", "most"):
        expected = re.search(rf"  {row} +[\d,]+ +[\d,]+ +[\d,]+ +[\d,.]+", own.stdout + own.stderr)
        assert expected[0] in whole.stdout
    scaled = kedro(
        "run",
        "--pipeline",
        "teacher_annotation",
        "--params",
        f"{params},dry_run=true,dry_run_settings.train_posts=3000",
    )
    assert "posts: train 3,000, dev 30, test 30 (posts.parquet" in scaled.stdout
