"""A run that is killed in every long node ends with the bytes of an undisturbed one."""

import json
import random
from functools import partial
from pathlib import Path

import pytest

from tests.commands import Forked
from tests.project.conftest import RUN, SMALL, UP_TO_METRICS, run
from tests.project.test_end_to_end import fingerprints

pytestmark = pytest.mark.slow


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


def test_a_run_killed_in_every_long_node_ends_as_an_undisturbed_one(undisturbed, project):
    """SIGKILL once in each long node, a random while after its first result; the same command goes on."""
    generator = random.Random(0)
    for moment, reached in MOMENTS.items():
        process = Forked(project, "run", *UP_TO_METRICS, "--params", SMALL)
        process.kill(partial(reached, project), moment, generator.random() * 0.2)
    result = run(project, *UP_TO_METRICS, "--params", SMALL)
    assert result.returncode == 0, result.stderr[-4000:]
    assert fingerprints(project) == fingerprints(undisturbed)
