"""Mistakes on the command line: one clear sentence, an exit code that is not 0, nothing half done."""

import errno
import shutil
import subprocess
import sys

import pytest
from kedro.framework.project import configure_project
from kedro.io import AbstractDataset, DatasetError
from safetensors import SafetensorError

from mulcot_rd.checks import check_selection
from mulcot_rd.cli import run
from mulcot_rd.errors import UserError
from mulcot_rd.messages import is_users, one_sentence
from tests.commands import environment
from tests.commands import kedro as kedro_in
from tests.project.conftest import current

pytestmark = pytest.mark.slow


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


def test_a_missing_key_is_named_before_anything_is_made(project, kedro):
    _refused(kedro("run", "--params", "teacher.provider=openai"), "needs an API key: set OPENAI_API_KEY")
    assert not (project / "data" / "03_primary").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--pipeline", "data_prep"], "data_preparation"),
        (["--pipeline", "data_preparation", "--nodes", "read_raw"], "--nodes.*data_preparation.read_raw"),
        (["--pipeline", "data_preparation", "--from-nodes", "x"], "data_preparation.accept_posts"),
        (["--pipelines", "data_preparation,reporting", "--to-outputs", "postss"], "--to-outputs.*posts"),
        (["--pipeline", "reporting", "--tags", "optional"], "--tags.*optional_inputs"),
        (["--pipeline", "reporting", "--namespaces", "report"], "--namespaces.*reporting"),
        (
            ["--pipeline", "data_preparation", "--nodes", "data_preparation.read_raw", "--from-inputs", "posts"],
            "no node",
        ),
        (["--pipeline", "data_preparation", "--runner", "Sequental"], "leave --runner out"),
    ],
)
def test_what_does_not_exist_is_named_with_what_is_like_it(options, words):
    configure_project("mulcot_rd")
    with pytest.raises(UserError, match=words):
        check_selection(run.make_context("run", options).params)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--pipeline", "data_preparation", "--tags", "x"], ("--tags",)),
        (["--env", "workstatoin"], ("workstation",)),
        (["--params", "teacher.budgt=1", "--pipeline", "data_preparation"], ("budget_usd",)),
        (["--params", "arch"], ("NAME=VALUE",)),
        (["--config", "recipe.yml"], ("recipe.yml, line 2",)),
        (["--load-versions", "posts"], ("dataset_name:",)),
    ],
)
def test_what_does_not_exist_is_one_sentence(kedro, project, options, words):
    (project / "recipe.yml").write_text("run:\n\tenv: x\n")
    _refused(kedro("run", *options), *words)


def test_a_subfolder_is_as_good_as_the_projects_folder(project):
    """And the shell's folder has no say in relative paths, nor has what the project's folder is called."""
    moved = project.rename(project.with_name("a [2] {b} #1 100% clone"))
    folder = moved / "data" / "01_raw"
    shutil.copytree(folder, moved / "elsewhere")
    shutil.rmtree(folder / "sample")
    (moved / "plan.yml").write_text(
        "runs:\n  - parameters: {raw_dir: elsewhere, limit: 3}\n    stages: [data_preparation, teacher_annotation]\n"
    )

    def kedro_there(*arguments):
        done = kedro_in(folder, *arguments)
        assert done.returncode == 0, done.stderr[-3000:]
        return done

    kedro_there("experiments", "../../plan.yml")
    kedro_there("run", "--pipeline", "reporting", "--params", "raw_dir=elsewhere,limit=3")
    assert current(moved / "data/03_primary/sample/posts.parquet").is_file()
    assert (moved / "data/08_reporting/tables/table_1.md").is_file()
    assert list(folder.iterdir()) == []


def test_the_packaged_project_is_a_command(project):
    done = subprocess.run(
        [sys.executable, "-m", "mulcot_rd", "--pipeline", "data_preparation", "--params", "limit=2,run=010"],
        cwd=project,
        env={**environment(), "PYTHONPATH": str(project / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert current(project / "data/03_primary/sample/posts.parquet").is_file()


def test_a_full_or_closed_disk_is_one_sentence_wherever_it_is_met():
    closed = OSError(errno.EROFS, "Read-only file system", "/data/x")
    wrapped = DatasetError("Failed while saving data to dataset")
    wrapped.__cause__ = closed
    rust = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    for error, words in (
        (rust, "the disk is full"),
        (closed, "/data/x: the file system is read-only"),
        (wrapped, "read-only"),
        (OSError(errno.EXDEV, "Invalid cross-device link", "/data/x"), "/data/x: these two places lie on different"),
    ):
        assert is_users(error)
        assert words in one_sentence(error)
        assert "the same command again" in one_sentence(error)
    assert not is_users(OSError(errno.ECONNRESET, "reset"))


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


def test_what_a_dataset_refuses_is_said_in_its_own_words():
    with pytest.raises(DatasetError) as raised:
        _Refusing().load()
    assert one_sentence(raised.value) == "the shard is damaged: write it anew"


class _Refusing(AbstractDataset):
    def load(self):
        raise UserError("the shard is damaged: write it anew")

    def save(self, data):
        raise NotImplementedError

    def _describe(self):
        return {}
