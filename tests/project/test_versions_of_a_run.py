"""A run made again with another parameter: both are there, told apart, and go on being used."""

import filecmp
import shutil
from functools import partial
from pathlib import Path

import pytest

from mulcot_rd.lineage import commit
from tests.commands import kedro as kedro_in
from tests.project.conftest import RUN, SMALL, UP_TO_METRICS, run
from tests.project.test_end_to_end import fingerprints

pytestmark = pytest.mark.slow

STUDENT = f"data/06_models/{RUN}/student"
METRICS = f"data/08_reporting/{RUN}/metrics.json"


def versions(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def second(undisturbed, tmp_path_factory) -> tuple[Path, str]:
    """The finished run, and the same with another lambda; what the command said."""
    project = shutil.copytree(undisturbed, tmp_path_factory.mktemp("twice") / "project")
    result = run(project, "--params", f"{SMALL},student_training.weights.kd_ratio=0.5")
    assert result.returncode == 0, result.stderr[-3000:]
    return project, result.stderr


@pytest.fixture(scope="module")
def twice(second) -> Path:
    """The project with both."""
    return second[0]


@pytest.fixture
def kedro(twice):
    return partial(kedro_in, twice)


def test_only_the_student_is_made_anew_and_the_command_says_why(undisturbed, second):
    project, said = second
    (warned,) = [line for line in said.splitlines() if "student: made anew" in line]
    assert " WARNING " in warned
    assert "is kept (run=NAME leaves it in use)" in warned
    assert "training.weights.kd_ratio: 0.3 -> 0.5" in said
    assert "assistant, epoch" not in said
    assert fingerprints(project) != fingerprints(undisturbed)


def test_a_former_parameter_finds_its_student_again(undisturbed, twice, tmp_path):
    project = shutil.copytree(twice, tmp_path / "copy")
    result = run(project, *UP_TO_METRICS, "--params", SMALL)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "epoch 1" not in result.stderr
    assert fingerprints(project) == fingerprints(undisturbed)


def test_what_changed_is_a_second_version_and_the_first_stays_byte_for_byte(undisturbed, twice):
    for path, number in ((STUDENT, 2), (METRICS, 2), (f"data/06_models/{RUN}/assistant", 1)):
        (first,) = versions(undisturbed / path)
        assert len(versions(twice / path)) == number
        compared = filecmp.dircmp(undisturbed / path / first, twice / path / first)
        assert not compared.left_only + compared.right_only + compared.diff_files
    # Disk for each adapter once: nothing is left in the folder of work.
    assert not list((twice / f"data/06_models/{RUN}/work").rglob("*.safetensors"))


def test_an_older_student_is_evaluated_and_its_metrics_lead_back_to_it_and_the_posts(twice, kedro):
    first, second = versions(twice / STUDENT)
    result = kedro("lineage")
    assert f"student_adapter {second}, by student_distillation.distil_student, mulcot_rd " in result.stdout
    assert "  posts " in result.stdout
    evaluation = ("run", "--pipeline", "evaluation", "--params", SMALL, "--load-versions")
    result = kedro(*evaluation, f"student_adapter:{first}")
    assert result.returncode == 0, result.stderr[-3000:]
    assert f"student_adapter {first}, by" in kedro("lineage").stdout
    assert versions(twice / STUDENT) == [first, second]
    # What it was before can be told apart, and reported only with what belongs to it.
    metrics = versions(twice / METRICS)[1]
    result = kedro("run", "--pipeline", "reporting", "--params", SMALL, "--load-versions", f"metrics:{metrics}")
    assert result.returncode == 1
    assert f"run_config:{metrics}" in result.stderr.splitlines()[-1]
    for wanted, said in (
        ("student_adapter:2020", f"there is no version 2020 of student_adapter; there are: {first}, {second}"),
        ("student_test:2020", "this run makes student_test"),
        ("teacher_summary:2020", "teacher_summary has no versions"),
    ):
        result = kedro(*evaluation, wanted)
        assert result.returncode == 1
        assert said in result.stderr.splitlines()[-1]


def test_runs_are_listed_with_what_tells_them_apart(twice, kedro):
    first, second = versions(twice / METRICS)[:2]
    rows = kedro("runs").stdout.splitlines()
    told = [next(row for row in rows if version in row) for version in (first, second)]
    assert ["kd_ratio: 0.3 -> 0.5" in row for row in told] == [False, True]
    result = kedro("runs", f"{RUN}:{first}", f"{RUN}:{second}")
    assert "| student.training.weights.kd_ratio | 0.3 | 0.5 |" in result.stdout
    assert f"| from student_test | {first}, " in result.stdout
    result = kedro("runs", RUN, "sample/other")
    assert result.returncode == 1
    assert f"there is no run sample/other; there are: {RUN}" in result.stderr


def test_the_papers_tables_show_a_version_that_is_asked_for(twice, kedro):
    first, *_ = versions(twice / METRICS)
    given = f"{SMALL},reporting.versions.{RUN}={first}"
    result = kedro("run", "--pipeline", "reporting", "--nodes", "reporting.collect_paper_tables", "--params", given)
    assert result.returncode == 0, result.stderr[-3000:]
    for name in ("table_scores", "table_comparisons", "table_12"):
        assert f"; version {first}" in (twice / f"data/08_reporting/tables/{name}.csv").read_text()


def test_versions_that_nothing_needs_are_removed_after_a_question(twice, kedro):
    before = versions(twice / METRICS)
    listed = kedro("versions").stdout
    # A folder that was moved to another disk holds what others need as before.
    models = twice / "data/06_models/sample"
    models.rename(twice / "elsewhere")
    models.symlink_to(twice / "elsewhere")
    assert kedro("versions").stdout == listed
    assert kedro("versions", "--remove", typed="n\n").returncode == 1
    assert versions(twice / METRICS) == before
    assert "not needed" in kedro("versions").stdout
    result = kedro("versions", "--remove", typed="y\n")
    assert result.returncode == 0, result.stderr
    # The newest metrics, and those that the newest tables show.
    assert versions(twice / METRICS) == before
    assert len(versions(twice / "data/08_reporting/tables/table_scores")) == 1
    assert "nothing needs 0 of them" in kedro("versions").stdout
    assert kedro("lineage").returncode == 0


def test_the_commit_is_that_of_the_projects_repository(tmp_path):
    assert commit(tmp_path) is None
