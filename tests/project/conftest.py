"""A project of its own for every test that runs Kedro: this one's code and configuration, an empty data folder."""

import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from filelock import FileLock

from mulcot_rd.config import ProjectConfigLoader
from mulcot_rd.pipeline_registry import STAGES
from mulcot_rd.versions import newest
from tests.commands import ROOT, kedro_anew
from tests.commands import kedro as kedro_in

CONF = ROOT / "conf"
# The run that the parameters below make.
RUN = "sample/arch4-tiny-full"
# What a small run is made of; the real sample, few posts, few epochs.
SMALL = (
    "limit=12,assistant_training.optimisation.checkpoint_minutes=0,student_training.optimisation.checkpoint_minutes=0,"
    "assistant_training.optimisation.validation.max_new_tokens=24,student_training.optimisation.validation.max_new_tokens=24,"
    "assistant_training.optimisation.epochs=2,student_training.optimisation.epochs=2,"
    "assistant_training.optimisation.batch_size=2,student_training.optimisation.batch_size=4,"
    "generation.max_new_tokens=24,generation.max_retries=1,generation.batch_size=1,soft_labels.rows_per_shard=4"
)
# Where nothing depends on how long a training is.
FAST = SMALL.replace("epochs=2", "epochs=1")
UP_TO_METRICS = ("--pipelines", ",".join(STAGES[:-1]))


def make_project(folder: Path) -> Path:
    """Copy configuration and sample, and the code."""
    folder.mkdir(parents=True)
    shutil.copytree(ROOT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    shutil.copytree(ROOT / "data" / "01_raw" / "sample", folder / "data" / "01_raw" / "sample")
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copy(ROOT / ".telemetry", folder)
    (folder / "conf" / "local").mkdir(exist_ok=True)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("*.egg-info"))
    return folder


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess:
    """`kedro run` in a project."""
    return kedro_in(project, "run", *arguments)


def current(path: Path) -> Path:
    """The file that a path of the catalog stands for: of the newest version of itself, or of its folder."""
    return newest(path) if newest(path) != path else newest(path.parent) / path.name


def load(env=None, conf=CONF, **runtime):
    """The project's configuration, with parameters as given on the command line."""
    return ProjectConfigLoader(
        conf_source=str(conf),
        env=env,
        base_env="base",
        default_run_env="local",
        runtime_params=runtime,
    )


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, worker_id) -> Path:
    """A project whose small run is finished, the same for all of pytest's processes: no test changes it."""
    shared = tmp_path_factory.getbasetemp()
    project = (shared if worker_id == "master" else shared.parent) / "undisturbed"
    with FileLock(f"{project}.lock"):
        if not project.exists():
            made = make_project(tmp_path_factory.mktemp("whole") / "project")
            result = kedro_anew(made, "run", "--params", SMALL)
            assert result.returncode == 0, result.stderr[-4000:]
            made.rename(project)
    return project


@pytest.fixture
def finished(undisturbed, tmp_path) -> Path:
    """An own copy of the finished project."""
    return shutil.copytree(undisturbed, tmp_path / "finished")


@pytest.fixture
def project(tmp_path) -> Path:
    """An own project."""
    return make_project(tmp_path / "project")


@pytest.fixture
def kedro(project) -> Callable[..., subprocess.CompletedProcess]:
    """Runs Kedro's command line in the own project."""
    return partial(kedro_in, project)
