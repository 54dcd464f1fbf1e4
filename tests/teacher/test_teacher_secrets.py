"""A key in the credentials is sent to the server and is found nowhere else, whatever goes wrong."""

import json

import pytest
import yaml
from fault_server import FaultServer, Script
from tests.commands import kedro_anew
from tests.project.conftest import make_project

pytestmark = pytest.mark.slow

KEY = "sk-proj-4f1d0c2b9a8e7766-very-secret"
OTHER_KEY = "sk-proj-00000000aaaaaaaa-also-secret"
OPENAI_KEY = "sk-proj-11111111bbbbbbbb-of-openai-alone"
EVERYTHING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {
        "console": {"class": "logging.StreamHandler", "level": "DEBUG"},
        "file": {"class": "logging.FileHandler", "filename": "data/everything.log", "level": "DEBUG"},
    },
    "root": {"handlers": ["console", "file"], "level": "DEBUG"},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = make_project(tmp_path_factory.mktemp("secrets") / "project")
    (folder / "everything.yml").write_text(yaml.safe_dump(EVERYTHING), encoding="utf-8")
    prepared = run(folder, "data_preparation", "limit=4")
    assert prepared.returncode == 0, prepared.stderr[-2000:]
    return folder


def run(folder, pipeline, parameters, **given):
    # Kedro takes its logging from the environment when it starts.
    return kedro_anew(
        folder, "run", "--pipeline", pipeline, "--params", parameters, KEDRO_LOGGING_CONFIG="everything.yml", **given
    )


def annotate(folder, server, **given):
    server_key = ",teacher.api_key_env=OPENAI_API_KEY" if given else ""
    parameters = f"limit=4{server_key},teacher.provider=openai,teacher.base_url={server.url},teacher.backoff_s=0.01"
    return run(folder, "teacher_annotation", parameters, **given)


def place(folder, key, server=None):
    credentials = folder / "conf" / "local" / "credentials.yml"
    entry = {"api_key": OPENAI_KEY, "servers": {server.url: {"api_key": key}} if server else None}
    credentials.write_text(yaml.safe_dump({"openai": entry}), encoding="utf-8")


def found_in(folder, result, key):
    """Every file of the project and every output that has the key, or a piece that would give it away."""
    pieces = [key.encode(), key[8:24].encode()]
    named = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    del named["conf/local/credentials.yml"]
    named |= {"stdout": result.stdout.encode(), "stderr": result.stderr.encode()}
    return [name for name, content in named.items() if any(piece in content for piece in pieces)]


def test_a_refused_key_is_not_repeated_by_the_error(project):
    with FaultServer(Script(key=KEY)).running() as server:
        place(project, OTHER_KEY, server)
        result = annotate(project, server)
    assert result.returncode != 0
    assert set(server.keys) == {f"Bearer {OTHER_KEY}"}
    assert "conf/local/credentials.yml" in result.stderr
    assert found_in(project, result, OTHER_KEY) == []


def test_an_annotation_with_faults_leaves_the_key_nowhere(project):
    told = json.dumps({"error": {"message": f"your key {KEY} is fine, your request is not", "code": "content_filter"}})
    with FaultServer(Script(seed=1, fault_share=0.4, flaw_share=0.3, key=KEY)).running() as server:
        # All eight posts are refused, and one of them a second time, in stage two.
        place(project, KEY, server)
        refusals = [(400, {}, told)] * 9
        server.faults = [*refusals, (500, {"X-Key": KEY}, KEY), (200, {}, f'{{"id": "{KEY}'), "drop"]
        result = annotate(project, server)
    assert result.returncode == 0, result.stderr[-2000:]
    assert set(server.keys) == {f"Bearer {KEY}"}
    # What the server said of the key was written down, without the key; and the log really was of everything.
    (quarantine,) = project.glob("data/05_model_input/sample/*/quarantine.jsonl")
    assert "is fine, your request is not" in quarantine.read_text()
    assert "teacher_credentials" in (project / "data" / "everything.log").read_text()
    assert found_in(project, result, KEY) == []


def test_a_crash_and_a_key_from_the_environment_leave_nothing_either(project):
    place(project, None)
    ledger = project / "data" / "05_model_input" / "sample" / "teacher_ledger.jsonl"
    ledger.unlink(missing_ok=True)
    ledger.mkdir(parents=True)
    with FaultServer(Script(key=KEY)).running() as server:
        result = annotate(project, server, OPENAI_API_KEY=KEY)
    assert result.returncode != 0
    assert "Traceback" in result.stderr
    assert found_in(project, result, KEY) == []
