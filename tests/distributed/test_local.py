"""Groups of processes on this machine: results, errors and deaths reach who launched them, and none outlives it."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from tests.distributed.jobs import Calls, Dies, Fails, cluster

from mulcot_rd.distributed import launch
from mulcot_rd.distributed.local import WorkerDiedError
from mulcot_rd.errors import UserError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_a_group_of_one_is_this_process(tmp_path):
    before = torch.get_num_threads()
    result = launch(Calls(), cluster(1, cpus_per_worker=3), tmp_path / "job", most=9)
    assert result == {
        "sum": [1.0, 1.0],
        "gathered": [0],
        "broadcast": "of 0",
        "shares": [[0, 1, 2, 3, 4]],
        "pids": [os.getpid()],
        "threads": 3,
        "environment": None,
    }
    assert torch.get_num_threads() == before
    assert not (tmp_path / "job").exists()


def test_processes_sum_gather_and_share(tmp_path):
    result = launch(Calls(), cluster(3, environment={"MULCOT_TEST": "set"}), tmp_path / "job", most=9)
    assert result["sum"] == [6.0, 3.0]
    assert (result["gathered"], result["broadcast"]) == ([0, 1, 2], "of 0")
    assert result["shares"] == [[0, 3], [1, 4], [2]]
    assert len({*result["pids"], os.getpid()}) == 4
    assert (result["threads"], result["environment"]) == (1, "set")
    assert not (tmp_path / "job").exists()


def test_signals_have_their_own_handlers_again(tmp_path, request):
    """Or an interruption of whatever comes next, in a notebook say, would be an error of torch's launcher."""
    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    # A shell's background job ignores Ctrl-C.
    request.addfinalizer(
        partial(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))
    )
    before = [signal.getsignal(number) for number in handled]
    launch(Calls(), cluster(2), tmp_path / "job", most=9)
    assert [signal.getsignal(number) for number in handled] == before
    assert before[0] is signal.default_int_handler


def test_the_launcher_leaves_nothing_among_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    launch(Calls(), cluster(2), tmp_path / "job", most=9)
    assert not list(tmp_path.glob("torchelastic*"))


def test_a_folder_may_have_blanks_and_accents(tmp_path):
    folder = tmp_path / "my drive #1, café 50%"
    assert launch(Calls(), cluster(2, max_failures=0), folder / "job", most=9)["gathered"] == [0, 1]


def test_no_more_processes_than_parts(tmp_path):
    assert launch(Calls(), cluster(3), tmp_path / "job", most=2)["gathered"] == [0, 1]


def test_an_environment_of_its_own_needs_a_process_of_its_own(tmp_path):
    result = launch(Calls(), cluster(1, environment={"MULCOT_TEST": "set"}), tmp_path / "job", most=9)
    assert result["environment"] == "set"
    assert result["pids"] != [os.getpid()]


def test_workers_start_again_when_one_is_killed(tmp_path):
    assert launch(Dies(always=False, mark=tmp_path / "mark"), cluster(2), tmp_path / "job", most=9) == [0, 1]
    assert (tmp_path / "mark").exists()


def test_a_worker_that_is_killed_again_and_again_is_told(tmp_path):
    with pytest.raises(
        WorkerDiedError, match=r"worker 1 was killed \(exit code -9\).*memory.*1 new start.*same command"
    ):
        launch(Dies(always=True, mark=tmp_path / "mark"), cluster(2), tmp_path / "job", most=9)


def test_an_error_that_a_user_can_mend_is_raised_and_not_tried_again(tmp_path):
    with pytest.raises(UserError, match=r"^posts\.csv has no column 'label'$"):
        launch(Fails(users=True, count=tmp_path / "count"), cluster(2), tmp_path / "job", most=9)
    assert sorted((tmp_path / "count").read_text().split()) == ["0", "1"]


def test_any_other_error_comes_with_its_traceback(tmp_path):
    with pytest.raises(RuntimeError, match=r"worker \d failed") as caught:
        launch(Fails(users=False, count=tmp_path / "count"), cluster(2, max_failures=0), tmp_path / "job", most=9)
    assert "KeyError: 'a bug'" in str(caught.value)


def test_a_job_of_before_does_not_end_this_one(tmp_path):
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "error.json").write_text('{"message": "an old one"}')
    assert launch(Calls(), cluster(2), tmp_path / "job", most=9)["gathered"] == [0, 1]


SCRIPT = """
from pathlib import Path
from tests.distributed.jobs import Waits, cluster
from mulcot_rd.distributed import launch

if __name__ == "__main__":
    launch(Waits(), cluster(2), Path({folder!r}), most=9)
"""


def _started(tmp_path, script):
    path = tmp_path / "script.py"
    path.write_text(script)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}:{tmp_path}"}
    return subprocess.Popen(
        [sys.executable, path], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def _ended(pid):
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_worker_outlives_the_process_that_launched_it(tmp_path, ending):
    process = _started(tmp_path, SCRIPT.format(folder=str(tmp_path / "job")))
    try:
        workers = [int(pid) for pid in process.stdout.readline().strip("[]\n").split(",")]
        process.send_signal(ending)
        for _ in range(300):
            if all(map(_ended, workers)):
                break
            time.sleep(0.1)
        else:
            pytest.fail("a worker is still there thirty seconds later")
    finally:
        process.kill()
        process.communicate()


PREPARED = """
import os, signal, time
from pathlib import Path
from tests.distributed.jobs import Imported, cluster
from mulcot_rd.distributed import launch
from mulcot_rd.distributed.local import prepare

if __name__ == "__main__":
    prepare(["imported_slowly"])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    time.sleep(0.5)
    os.killpg(0, signal.SIGINT)
    print(launch(Imported(module="imported_slowly"), cluster(2), Path({folder!r}), most=9))
"""


def test_workers_have_what_was_prepared_and_an_interruption_meanwhile_is_not_theirs(tmp_path):
    (tmp_path / "imported_slowly.py").write_text("import time\ntime.sleep(2)\n")
    out, error = _started(tmp_path, PREPARED.format(folder=str(tmp_path / "job"))).communicate(timeout=120)
    assert out == "True\n", error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("given", "gpus", "threads", "most", "size"),
    [
        ({}, 0, 8, 9, 1),
        ({"cpus_per_worker": 1}, 0, 8, 9, 8),
        ({"cpus_per_worker": 3}, 0, 8, 9, 2),
        ({"cpus_per_worker": 1}, 0, 8, 5, 5),
        ({"cpus_per_worker": 1}, 0, 8, 0, 1),
        ({"workers": 3, "cpus_per_worker": 1}, 0, 2, 9, 3),
        ({}, 4, 8, 9, 4),
        ({"workers": 2}, 4, 8, 9, 2),
        ({"workers": 6, "gpus_per_worker": 0}, 4, 8, 9, 6),
    ],
)
def test_the_size_is_what_is_wanted_as_far_as_there_is_work(given, gpus, threads, most, size):
    parameters = cluster(None, gpus_per_worker=None, cpus_per_worker=None).model_copy(update=given)
    assert parameters.group_size(gpus=gpus, threads=threads, most=most) == size


def test_more_workers_than_gpus_are_refused():
    with pytest.raises(UserError, match=r"cluster\.workers is 3, and there are 2 GPUs"):
        cluster(3, gpus_per_worker=None).group_size(gpus=2, threads=8, most=9)


def test_a_gpu_that_is_wanted_and_not_there_is_named():
    with pytest.raises(UserError, match=r"cluster\.gpus_per_worker is 1, and there is no GPU"):
        cluster(1, gpus_per_worker=1).group_size(gpus=0, threads=8, most=9)
