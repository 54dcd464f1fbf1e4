"""One writer at a time for a run: the second `kedro run` of the same data set and name is told who holds it."""

import fcntl
import json
import os
import socket
from datetime import datetime
from pathlib import Path
from typing import TextIO

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog

from mulcot_rd.errors import UserError
from mulcot_rd.files import write_json
from mulcot_rd.parameters import RunParameters


class RunLock:
    """Hooks that hold a lock of the run's folders while its pipelines run; reading takes no lock.

    The system gives the lock back when the process ends, however it ends. Beside the lock's file stands who took it
    last: process id, host and time.
    """

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._held: TextIO | None = None

    @hook_impl
    def before_pipeline_run(self, catalog: DataCatalog) -> None:
        """Take the lock of this run."""
        run = RunParameters.model_validate(catalog.load("params:run_settings"))
        self.take(catalog.load("run_lock"), f"run {run.name} on {run.dataset}")

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Give the lock back: a notebook's process goes on."""
        self.release()

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Give the lock back."""
        self.release()

    def take(self, path: Path, what: str) -> None:
        """Take the lock.

        Args:
            path: The lock's file.
            what: What it locks, for the message.

        Raises:
            UserError: If another process holds it; the message says which.
        """
        # A run that was interrupted in a notebook may have left it.
        self.release()
        lock = path.open("w")
        holder = path.with_name(f"{path.name}.json")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise UserError(
                f"{what} is being written by {_told(holder)}: wait until it ends, end it, or give this run a name of "
                "its own with --params run=NAME"
            ) from None
        self._held = lock
        since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        write_json(holder, {"pid": os.getpid(), "host": socket.gethostname(), "since": since})

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._held is not None:
            self._held.close()
            self._held = None


def _told(holder: Path) -> str:
    if not holder.exists():
        return "a process that has begun this moment"
    by = json.loads(holder.read_text(encoding="utf-8"))
    return f"process {by['pid']} on {by['host']} since {by['since']}"
