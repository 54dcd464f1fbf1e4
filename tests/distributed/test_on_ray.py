"""The same bytes on a Ray cluster: two workers of one processor each, on this machine alone."""

import os
import signal

import pytest
from tests.distributed.conftest import ROOT
from tests.distributed.jobs import Calls, Fails, cluster
from tests.distributed.model_jobs import KILLED, DyingTraining

from mulcot_rd.distributed import launch
from mulcot_rd.errors import UserError

pytestmark = pytest.mark.slow

ray = pytest.importorskip("ray", reason="the package ray is not installed")


@pytest.fixture(scope="module", autouse=True)
def _ray():
    """Workers find the tests; Ray ends with the module."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{ROOT}:{ROOT / 'src'}"
    yield
    ray.shutdown()
    os.environ.pop("PYTHONPATH")
    if before is not None:
        os.environ["PYTHONPATH"] = before


# One family: what differs between them, processes on Ray don't see.
FAMILY = pytest.mark.parametrize("family_name", ["qwen3_vl"], indirect=True)


@FAMILY
def test_a_driver_that_is_killed_is_gone_on_from_by_one_process(job_file, train, assistant, run_job, tmp_path):
    """Its workers end with it: none writes on beside who goes on."""
    process, out = run_job(job_file(tmp_path, engine="ray"), kill_after_steps=2)
    assert process.returncode == -signal.SIGKILL, out
    assert {**train("assistant", tmp_path, 1), "folder": ""} == {**assistant, "folder": ""}


@FAMILY
def test_a_worker_that_is_killed_changes_nothing(train, assistant, tmp_path, monkeypatch):
    monkeypatch.setattr("mulcot_rd.training.train.TrainingJob", DyingTraining)
    mark = tmp_path / "killed"
    # Rank 0 alone: a start takes Ray long, and that of rank 1 is told from it by nothing here.
    mark.write_text("1")
    done = train("assistant", tmp_path, 2, engine="ray", environment={KILLED: str(mark)}, max_failures=1)
    assert mark.read_text() == "10"
    assert {**done, "folder": ""} == {**assistant, "folder": ""}


def test_an_error_that_a_user_can_mend_is_raised_as_it_is(tmp_path):
    """An interruption of whatever comes next is no longer one for Ray."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)]
    with pytest.raises(UserError, match=r"^posts\.csv has no column 'label'$"):
        one = cluster(2, engine="ray", max_failures=0)
        launch(Fails(users=True, count=tmp_path / "count"), one, tmp_path / "job", most=9)
    assert sorted((tmp_path / "count").read_text().split()) == ["0", "1"]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)] == handlers


def test_more_processors_than_there_are_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"2 workers of 99 processors each need 198, and the Ray cluster has"):
        launch(Calls(), cluster(2, engine="ray", cpus_per_worker=99), tmp_path / "job", most=9)
