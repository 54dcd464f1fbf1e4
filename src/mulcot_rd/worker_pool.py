"""Several processes for one piece of work: a small model's operations are too short to keep every core busy.

Every worker gets a copy of one object, the subject, and runs its methods when asked to. Workers begin in a clean
process (a fork server), never as forks of this one, whose threads they would lose. They end with it, however it ends.
"""

import logging
import multiprocessing
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Self

import torch

from mulcot_rd.errors import UserError

logger = logging.getLogger(__name__)

# How long a worker that has nothing more to do may take to end, in seconds.
_PATIENCE = 5.0


def prepare(modules: Sequence[str]) -> None:
    """Start the process that workers are forked from, and let it import these modules while this one goes on.

    Without it that happens when the first pool begins, which waits for it; once it has begun, this changes nothing. It
    ends with this process, or when it has imported what it was told to.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(list(modules))
    # Started first, since its start lifts the block below.
    resource_tracker.ensure_running()
    # An interruption from the keyboard reaches every process: it would end that one in the middle of an import, loudly.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class WorkerDiedError(UserError):
    """A worker ended without an answer, as one does that the system kills because memory ran out."""


class _WorkerTraceback(Exception):  # noqa: N818 - it only shows where an error came from
    """Where an error happened in a worker; stands as the cause behind the error itself."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class WorkerPool:
    """This process and its workers, which share the threads that PyTorch would use here.

    Used as a context manager: workers run, and threads are shared, while it is open.

    Args:
        subject: Every worker gets a copy; there ``attach(*buffers)`` runs first, where it has buffers.
        size: Processes, this one included; 1 has no worker and changes nothing.
        buffers: Arguments of ``attach`` for each worker: memory that processes share.
    """

    def __init__(self, subject: Any, size: int, buffers: Sequence[tuple[Any, ...]] | None = None) -> None:
        self.size = size
        self._subject, self._buffers = subject, [()] * (size - 1) if buffers is None else buffers
        self._workers: list[tuple[multiprocessing.process.BaseProcess, Connection]] = []
        self._threads = torch.get_num_threads()

    def __enter__(self) -> Self:
        if self.size == 1:
            return self
        try:
            self._start(max(1, self._threads // self.size))
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def _start(self, threads: int) -> None:
        context = multiprocessing.get_context("forkserver")
        prepare([type(self._subject).__module__])
        # As bytes: multiprocessing would put every tensor into shared memory, of which containers have little.
        subject = pickle.dumps(self._subject)
        for number, given in enumerate(self._buffers, start=1):
            own, other = context.Pipe()
            process = context.Process(
                target=_help, args=(other, threads, given), name=f"{__name__} {number}", daemon=True
            )
            process.start()
            other.close()
            self._workers.append((process, own))
            own.send_bytes(subject)
        torch.set_num_threads(threads)
        logger.debug("%d processes of %d threads each", self.size, threads)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        torch.set_num_threads(self._threads)
        for process, connection in self._workers:
            connection.close()
            if kind is not None:
                process.terminate()
        for process, _ in self._workers:
            process.join(_PATIENCE)
            if process.is_alive():
                process.kill()
                process.join()
        self._workers.clear()

    def ask(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> None:
        """Let each worker run the subject's method with its own arguments, beside what this process does.

        What arguments and results hold must be small; tensors belong into shared memory.

        Raises:
            WorkerDiedError: If one has ended.
        """
        for (process, connection), own in zip(self._workers, arguments, strict=True):
            try:
                connection.send((method, own))
            except OSError as error:
                raise _died(process) from error

    def results(self) -> list[Any]:
        """What the workers' methods returned, in their order; waits for it.

        Raises:
            WorkerDiedError: If one has ended.
            Exception: What the method itself raised.
        """
        found = []
        for process, connection in self._workers:
            try:
                result, error, where = connection.recv()
            except (EOFError, OSError) as failure:
                raise _died(process) from failure
            if error is not None:
                raise error from _WorkerTraceback(where)
            found.append(result)
        return found


def pool_size(wanted: int | None, device: torch.device, most: int) -> int:
    """How many processes a piece of work is shared among.

    Args:
        wanted: As configured; ``None`` takes one for each thread that PyTorch would use here.
        device: Of the model; a GPU's has none beside this one.
        most: Parts that the work can be cut into and that are worth a process.

    Raises:
        UserError: If several are wanted on a GPU.
    """
    if device.type != "cpu":
        if wanted not in (None, 1):
            raise UserError(f"{wanted} processes can't share one {device.type} device: set workers to 1")
        return 1
    return max(1, min(wanted or torch.get_num_threads(), most))


def _died(process: multiprocessing.process.BaseProcess) -> WorkerDiedError:
    process.join(_PATIENCE)
    return WorkerDiedError(
        f"a worker was killed (exit code {process.exitcode}), most often because memory ran out: run the same command "
        "again, it goes on where this one stopped; with workers=1 one process does the work"
    )


def _help(connection: Connection, threads: int, given: tuple[Any, ...]) -> None:
    """What a worker does: wait, run, answer, until nobody asks any more."""
    # An interruption from the keyboard reaches every process; the one that asks decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    subject = None

    while True:
        try:
            if subject is None:
                # From the process that started this one, never from a file.
                subject = pickle.loads(connection.recv_bytes())
                if given:
                    subject.attach(*given)
            method, arguments = connection.recv()
        except EOFError:
            return
        try:
            answer = (getattr(subject, method)(*arguments), None, "")
        except Exception as error:
            # Raised again by the process that asked.
            answer = (None, _sendable(error), traceback.format_exc())
        try:
            connection.send(answer)
        except OSError:
            return


def _sendable(error: Exception) -> Exception:
    """The error itself, or one of its text where it can't be sent."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _end_with_parent() -> None:
    """End this process at once when the one that started it is gone, in the middle of whatever it does."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        signal.raise_signal(signal.SIGKILL)
