"""A project of its own for every test that runs Kedro: this one's code and configuration, an empty data folder."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mulcot_rd.config import ProjectConfigLoader
from mulcot_rd.versions import newest

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
# What a small run is made of; the real sample, few posts, few epochs.
SMALL = (
    "limit=12,assistant_training.optimisation.checkpoint_minutes=0,student_training.optimisation.checkpoint_minutes=0,"
    "assistant_training.optimisation.validation.max_new_tokens=24,student_training.optimisation.validation.max_new_tokens=24,"
    "assistant_training.optimisation.epochs=2,student_training.optimisation.epochs=2,"
    "assistant_training.optimisation.batch_size=2,student_training.optimisation.batch_size=4,"
    "generation.max_new_tokens=24,generation.max_retries=1,generation.batch_size=1,soft_labels.rows_per_shard=4"
)


def make_project(folder: Path) -> Path:
    """Copy configuration and sample, and the code."""
    folder.mkdir(parents=True)
    shutil.copytree(ROOT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    shutil.copytree(ROOT / "data" / "01_raw" / "sample", folder / "data" / "01_raw" / "sample")
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copy(ROOT / ".telemetry", folder)
    (folder / "conf" / "local").mkdir(exist_ok=True)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return folder


def command(*arguments: str) -> list[str]:
    """Kedro's command line in this environment."""
    return [sys.executable, "-m", "kedro", *arguments]


def environment() -> dict[str, str]:
    """One thread, no network, no key."""
    kept = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    return {**kept, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess:
    """`kedro run` in a project."""
    return subprocess.run(
        command("run", *arguments),
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


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
def undisturbed(tmp_path_factory) -> Path:
    """A project whose small run is finished. Who changes anything of that run works on a copy."""
    project = make_project(tmp_path_factory.mktemp("whole") / "project")
    result = run(project, "--params", SMALL)
    assert result.returncode == 0, result.stderr[-4000:]
    return project


@pytest.fixture
def project(tmp_path) -> Path:
    """An own project."""
    return make_project(tmp_path / "project")


@pytest.fixture
def kedro(project) -> Callable[..., subprocess.CompletedProcess]:
    """Runs Kedro's command line in the own project."""

    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            command(*arguments),
            cwd=project,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )

    return run
