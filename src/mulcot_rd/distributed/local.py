"""Workers on this machine, by torch's elastic launcher: gloo on processors, nccl on GPUs."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from typing import Any
from uuid import uuid4

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from mulcot_rd.distributed.group import Group
from mulcot_rd.distributed.signals import handlers_restored
from mulcot_rd.distributed.worker import TIMEOUT, Assignment, do_part, prepare_worker, user_error
from mulcot_rd.errors import UserError

logger = logging.getLogger(__name__)

# What it says of a worker that failed is said again by this module, or by the error that is raised.
for _name in list(logging.root.manager.loggerDict):
    if _name.startswith(("torch.distributed.elastic", "torch.multiprocessing.spawn")):
        logging.getLogger(_name).setLevel(logging.CRITICAL)

_METHOD = "forkserver"
# Seconds between two looks at the workers.
_INTERVAL = 0.1


class WorkerDiedError(UserError):
    """A worker ended without an answer, as one does that the system kills because memory ran out."""


def run(assignment: Assignment, size: int, max_failures: int) -> Any:
    """Run a job in so many processes of this machine; see :func:`~mulcot_rd.distributed.launch`."""
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=size,
        run_id=uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=max_failures,
        monitor_interval=_INTERVAL,
        start_method=_METHOD,
        # By default a folder that stays behind.
        logs_specs=DefaultLogsSpecs(log_dir=str(assignment.folder / "launcher")),
    )
    prepare([assignment.job.__module__])
    logger.info("%d workers of %d threads each", size, assignment.threads)
    try:
        with handlers_restored():
            results = elastic_launch(config, _work)(assignment)
    except ChildFailedError as error:
        if found := user_error(assignment.folder):
            raise found from error
        raise _died(error, max_failures) from error
    except SignalException as error:
        raise (KeyboardInterrupt if error.sigval == signal.SIGINT else SystemExit(128 + error.sigval)) from error
    if found := user_error(assignment.folder):
        raise found
    return results[0]


def prepare(modules: Sequence[str]) -> None:
    """Start the process that workers are forked from, and let it import these modules while this one goes on.

    Without it that happens when the first workers begin, who wait for it; once it has begun, this changes nothing. It
    ends with this process, or when it has imported what it was told to.
    """
    multiprocessing.get_context(_METHOD).set_forkserver_preload(list(modules))
    # Started first, since its start lifts the block below.
    resource_tracker.ensure_running()
    # An interruption from the keyboard reaches every process: it would end that one in the middle of an import, loudly.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(assignment: Assignment) -> Any:
    """What each process runs."""
    # An interruption from the keyboard reaches every process: this one ends without a word. The process that it was
    # forked from had blocked it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    prepare_worker(assignment, rank)
    if assignment.on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # A store of its own for each start: in the launcher's the addresses of workers that died would still be there.
    # Not by its address: torch does not decode one, and a space or an accent in the path would stay %20 or %C3%A9.
    store = dist.FileStore(str(assignment.folder / f"start-{os.environ['TORCHELASTIC_RESTART_COUNT']}"), size)
    store.set_timeout(TIMEOUT)
    backend = "cpu:gloo,cuda:nccl" if assignment.on_gpu else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    try:
        return do_part(assignment, Group(rank, size))
    finally:
        dist.destroy_process_group()


def _end_with_parent() -> None:
    """End this process at once when the one that started it is gone, in the middle of whatever it does."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        signal.raise_signal(signal.SIGKILL)


def _died(error: ChildFailedError, max_failures: int) -> Exception:
    """What to raise where the workers could not end their work."""
    rank, failure = error.get_first_failure()
    if failure.exitcode < 0:
        return WorkerDiedError(
            f"worker {rank} was killed (exit code {failure.exitcode}), most often because memory ran out, also after "
            f"{max_failures} new starts: run the same command again, it goes on where this one stopped; with "
            "cluster.workers=1 one process does the work"
        )
    others = [f"worker {other}: {_last_line(one)}" for other, one in error.failures.items() if other != rank]
    return RuntimeError("\n".join([f"worker {rank} failed: {_told(failure)}", *others]))


def _told(failure: ProcessFailure) -> str:
    """The traceback of a worker's error."""
    told = failure.message
    return told["extraInfo"]["py_callstack"] if isinstance(told, dict) else told


def _last_line(failure: ProcessFailure) -> str:
    return _told(failure).strip().splitlines()[-1]
