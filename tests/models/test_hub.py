"""Uploads to the hub: private, the token shown nowhere, and refused before the work where they can't be."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from huggingface_hub import constants
from kedro.framework.project import configure_project

from mulcot_rd.cli import cli
from mulcot_rd.errors import UserError
from mulcot_rd.models import hub

FAMILY = pytest.mark.parametrize("family_name", ["qwen2_5_vl"], indirect=True, scope="session")
TOKEN = "hf_made_up_token"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def calls(monkeypatch):
    """What the hub is asked to do, by a class that does nothing."""
    made = []

    class Api:
        def __init__(self, token):
            made.append(("token", token))

        def create_repo(self, name, *, private, exist_ok):
            made.append(("create", name, private, exist_ok))

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            made.append(("upload", repo_id, sorted(path.name for path in folder_path.iterdir())))
            return f"https://hub/{repo_id}/commit/1"

    monkeypatch.setattr(hub, "HfApi", Api)
    return made


@pytest.fixture
def project(monkeypatch, tmp_path):
    """A folder with the project's configuration, in which commands are given."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("local"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "conf" / "local").mkdir()
    (tmp_path / "src").mkdir()
    configure_project("mulcot_rd")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _export(student, out, *options):
    return CliRunner().invoke(cli, ["export", "--student", str(student), str(out), "--push", "me/student", *options])


@FAMILY
@pytest.mark.parametrize("place", ["environment", "credentials"])
def test_a_folder_is_uploaded_to_a_private_repository(student, calls, project, place, monkeypatch):
    if place == "environment":
        monkeypatch.setenv("HF_TOKEN", TOKEN)
    else:
        monkeypatch.setattr(hub, "get_token", lambda: None)
        (project / "conf" / "local" / "credentials.yml").write_text(f"huggingface: {{token: {TOKEN}}}\n")
    result = _export(student, project / "out", "--adapter-only")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1] == "https://hub/me/student/commit/1"
    assert TOKEN not in result.output
    assert calls[:2] == [("token", TOKEN), ("create", "me/student", True, True)]
    assert {"README.md", "adapter_model.safetensors", "prompt_label.txt"} <= set(calls[2][2])


@pytest.mark.parametrize(("token", "message"), [(None, "needs a token that may write"), ("hf_“x”", "not plain ASCII")])
def test_no_token_or_a_broken_one_is_refused(token, message, monkeypatch):
    monkeypatch.setattr(hub, "get_token", lambda: None)
    with pytest.raises(UserError, match=message) as refused:
        hub.HubRepository("me/student", token)
    assert "hf_" not in str(refused.value)


@FAMILY
@pytest.mark.parametrize("offline", [True, False])
def test_a_hub_out_of_reach_is_said_before_the_work(student, project, offline, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    result = _export(student, project / "out")
    assert result.exit_code == 1
    assert "nothing was uploaded to me/student on the hub: " in result.output
    assert ("offline mode is enabled" if offline else "Connection refused") in result.output
    assert TOKEN not in result.output
    assert not list(project.glob("*out*"))
