"""Worker processes: results, errors and deaths reach the process that asked, and no worker outlives it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mulcot_rd.shared_tensors import SharedTensors
from mulcot_rd.worker_pool import WorkerDiedError, WorkerPool, pool_size

from mulcot_rd.errors import UserError
from mulcot_rd.images import ImageError

CPU = torch.device("cpu")


class Subject:
    """Something that workers have copies of."""

    def __init__(self, value):
        self.value = value

    def attach(self, *shared):
        self.shared = shared

    def times(self, factor):
        return self.value * factor, os.getpid(), torch.get_num_threads()

    def fill(self, value):
        for tensor in self.shared[0].tensors():
            tensor.fill_(value)

    def fail(self, error):
        raise error

    def sleep(self):
        time.sleep(60)

    def has_imported(self, module):
        return module in sys.modules

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)


def test_each_worker_answers_with_its_own_argument():
    with WorkerPool(Subject(7), 3) as pool:
        pool.ask("times", [(2,), (3,)])
        (two, one, _), (three, other, _) = pool.results()
        assert (two, three) == (14, 21)
        assert len({one, other, os.getpid()}) == 3
        pool.ask("times", [(1,), (1,)])
        assert [pid for _, pid, _ in pool.results()] == [one, other]


def test_a_pool_of_one_asks_nobody():
    threads = torch.get_num_threads()
    with WorkerPool(Subject(1), 1) as pool:
        pool.ask("times", [])
        assert pool.results() == []
        assert torch.get_num_threads() == threads


def test_threads_are_shared_and_come_back():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with WorkerPool(Subject(1), 2) as pool:
            pool.ask("times", [(1,)])
            assert pool.results()[0][2] == torch.get_num_threads() == 2
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def test_shared_tensors_are_the_same_memory_in_a_worker():
    kinds = [torch.zeros(3, 5), torch.zeros(7, dtype=torch.int64), torch.zeros((), dtype=torch.bfloat16)]
    shared = SharedTensors(kinds)
    with WorkerPool(Subject(1), 2, [(shared,)]) as pool:
        pool.ask("fill", [(3,)])
        pool.results()
    for tensor, kind in zip(shared.tensors(), kinds, strict=True):
        assert (tensor.shape, tensor.dtype) == (kind.shape, kind.dtype)
        assert (tensor == 3).all()


def test_an_error_in_a_worker_is_raised_as_what_it_is():
    with WorkerPool(Subject(1), 2) as pool:
        pool.ask("fail", [(ImageError("image not found: a.png"),)])
        with pytest.raises(ImageError, match=r"a\.png") as caught:
            pool.results()
        assert "in fail" in str(caught.value.__cause__)
        pool.ask("times", [(5,)])
        assert pool.results()[0][0] == 5


def test_a_worker_that_dies_is_noticed():
    with WorkerPool(Subject(1), 2) as pool:
        pool.ask("die", [()])
        with pytest.raises(WorkerDiedError, match=r"exit code -9.*run the same command again"):
            pool.results()
        with pytest.raises(WorkerDiedError):
            pool.ask("times", [(1,)])


SCRIPT = """
import os, sys, time
sys.path.insert(0, {folder!r})
from mulcot_rd.worker_pool import WorkerPool
from test_worker_pool import Subject

if __name__ == "__main__":
    with WorkerPool(Subject(1), 2) as pool:
        pool.ask("times", [(1,)])
        print(pool.results()[0][1], flush=True)
        {then}
"""


@pytest.mark.parametrize("then", ["time.sleep(60)", "pool.ask('sleep', [()]); time.sleep(60)"])
def test_no_worker_outlives_a_process_that_is_killed(tmp_path, then):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(folder=str(Path(__file__).parent), then=then))
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    try:
        worker = int(process.stdout.readline())
        process.kill()
        for _ in range(100):
            if not Path(f"/proc/{worker}").exists() or "Z" in Path(f"/proc/{worker}/stat").read_text().split()[2]:
                break
            time.sleep(0.1)
        else:
            pytest.fail("the worker is still there ten seconds later")
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("wanted", "device", "most", "size"),
    [
        (None, CPU, 1, 1),
        (3, CPU, 8, 3),
        (3, CPU, 2, 2),
        (1, CPU, 8, 1),
        (3, CPU, 0, 1),
        (None, torch.device("cuda"), 9, 1),
    ],
)
def test_the_size_is_what_is_wanted_as_far_as_there_is_work(wanted, device, most, size):
    assert pool_size(wanted, device, most) == size


def test_several_processes_on_one_gpu_are_refused():
    with pytest.raises(UserError, match="set workers to 1"):
        pool_size(2, torch.device("cuda"), 9)


PREPARED = """
import os, signal, time
from mulcot_rd.worker_pool import WorkerPool, prepare
from test_worker_pool import Subject

if __name__ == "__main__":
    prepare(["imported_slowly"])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    time.sleep(0.5)
    os.killpg(0, signal.SIGINT)
    with WorkerPool(Subject(1), 2) as pool:
        pool.ask("has_imported", [("imported_slowly",)])
        print(pool.results()[0])
"""


def test_workers_have_what_was_prepared_and_an_interruption_meanwhile_is_not_theirs(tmp_path):
    (tmp_path / "imported_slowly.py").write_text("import time\ntime.sleep(2)\n")
    (tmp_path / "script.py").write_text(PREPARED)
    run = subprocess.run(
        [sys.executable, tmp_path / "script.py"],
        env={**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{tmp_path}"},
        start_new_session=True,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.stdout == "True\n"
    assert "Traceback" not in run.stderr
