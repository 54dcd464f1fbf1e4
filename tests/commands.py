"""Kedro's command line: in a process forked from one that has imported what commands need, or in a new one.

A new process spends seconds on imports, a forked one none. Tests that are about how a command starts take a new one.
"""

import atexit
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

ROOT = Path(__file__).parents[1]
SECONDS = 500


def command(*arguments: str) -> list[str]:
    """Kedro's command line in this environment."""
    return [sys.executable, "-m", "kedro", *arguments]


def environment(**given: str) -> dict[str, str]:
    """One thread, no network, no key, and what is given."""
    kept = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    return {**kept, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200", **given}


def kedro_anew(project: Path, *arguments: str, **given: str) -> subprocess.CompletedProcess:
    """Run a command in a new process, with these variables in its environment."""
    return subprocess.run(
        command(*arguments), cwd=project, env=environment(**given), capture_output=True, text=True, check=False,
        timeout=SECONDS,
    )  # fmt: skip


def kedro(project: Path, *arguments: str, typed: str = "") -> subprocess.CompletedProcess:
    """Run a command in a forked process, which reads what is typed."""
    return Forked(project, *arguments, typed=typed).wait()


class Forked:
    """A command in a forked process and session, one at a time."""

    def __init__(self, project: Path, *arguments: str, typed: str = "") -> None:
        self._folder = TemporaryDirectory()
        self._arguments = arguments
        self._files = [Path(self._folder.name) / name for name in ("stdin", "stdout", "stderr")]
        self._files[0].write_text(typed)
        asked = _Asked(list(arguments), str(project), environment(), list(map(str, self._files)))
        print(json.dumps(vars(asked)), file=_server().stdin, flush=True)
        self.pid = int(_server().stdout.readline())

    def wait(self) -> subprocess.CompletedProcess:
        """Its end and what it printed."""
        code = int(_server().stdout.readline())
        out, err = (path.read_text() for path in self._files[1:])
        self._folder.cleanup()
        return subprocess.CompletedProcess(self._arguments, code, out, err)

    def kill(self, reached: Callable[[], bool], moment: str, pause: float = 0.0) -> None:
        """SIGKILL it and its processes so many seconds after it has reached something, which it must outlive."""
        deadline = time.monotonic() + 300
        while not reached() and psutil.pid_exists(self.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(pause)
        assert psutil.pid_exists(self.pid), f"the run ended before it could be killed in {moment}"
        os.killpg(self.pid, signal.SIGKILL)
        assert self.wait().returncode == -signal.SIGKILL


@cache
def _server() -> subprocess.Popen:
    """The process that others are forked from. It ends with this one."""
    # Kedro looks for its logging in the folder in which it is imported.
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.commands"],
        cwd=ROOT, env=environment(PYTHONPATH=f"{ROOT}:{ROOT / 'src'}"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    atexit.register(server.communicate)
    return server


@dataclass
class _Asked:
    arguments: list[str]
    project: str
    environment: dict[str, str]
    files: list[str]


def _serve() -> _Asked | None:
    """In each fork, the command to be; in this process nothing, once the tests have ended."""
    # Kedro's plugins, the project's commands, hooks and nodes.
    import_module("kedro.framework.cli.cli").KedroCLI(project_path=ROOT).list_commands(None)
    import_module("mulcot_rd.settings")
    for name in import_module("mulcot_rd.pipeline_registry").STAGES:
        import_module(f"mulcot_rd.pipelines.{name}")
    # What metrics read once a process.
    import_module("mulcot_rd.metrics.wordnet").wordnet()
    import_module("mulcot_rd.metrics.embeddings").sentence_encoder()
    # Else each fork would copy all of this memory to look for garbage in it.
    gc.collect()
    gc.freeze()
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            return _Asked(**json.loads(line))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    return None


def _become(asked: _Asked) -> None:
    """Be the command, and end if it takes too long."""
    os.setsid()
    signal.alarm(SECONDS)
    for number, path in enumerate(asked.files):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | (os.O_APPEND if number else 0))
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(asked.environment)
    os.chdir(asked.project)
    sys.argv = ["kedro", *asked.arguments]
    import_module("kedro.framework.cli.cli").main()


if __name__ == "__main__" and (asked := _serve()) is not None:
    _become(asked)
