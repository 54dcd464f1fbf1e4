"""Throughput of the teacher's client against a server that takes 200 ms an answer, peers beside it, in one run.

    python bench/teacher.py --peer curator=/path/curator/bin/python --peer distilabel=/path/distilabel/bin/python

Each client asks the same prompts of a server of its own (``tests/teacher/fault_server.py``, a process on the last
core), with the same number of requests in flight and its caches cold. With 64 in flight at 200 ms the server allows 320
requests a second. A peer needs an environment of its own, outside this project::

    python -m venv curator
    curator/bin/pip install torch==2.13.0        # first: asked for by another package, pip may take a build for GPUs
    curator/bin/pip install bespokelabs-curator

    python -m venv distilabel
    distilabel/bin/pip install "distilabel[openai]" requests    # it needs requests and does not say so

Requests a second are counted by the server, from the first request to the last answer. CPU time and memory are those of
the client with every process that it starts; CPU seconds per 1,000 requests are the difference between a long and a
short run, so that imports don't count. Rows go to ``bench/results/teacher.json``, a table to the screen.
"""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from PIL import Image

from mulcot_rd.prompts import teacher_prompt
from mulcot_rd.schema import Post

ROOT = Path(__file__).parents[1]
RUNNERS = ROOT / "bench" / "peers"
PACKAGES = {"curator": "bespokelabs-curator", "distilabel": "distilabel"}
LATENCY_S = 0.2
SHORT = 64
LONGEST_RUN_S = 300


@dataclass(frozen=True)
class Measured:
    """One client's run.

    Attributes:
        client: Name and version.
        requests: Requests that the server saw.
        answered: Answers that the client says it has.
        most_in_flight: Most requests that the server had at once.
        requests_per_s: From the first request to the last answer.
        wall_s: From the client's start to its end, imports included.
        cpu_s: Of the client and its children.
        peak_mib: Most memory of all its processes together (proportional set size).
    """

    client: str
    requests: int
    answered: int
    most_in_flight: int
    requests_per_s: float
    wall_s: float
    cpu_s: float
    peak_mib: float


def main() -> None:
    """Run, print a table, write the JSON."""
    arguments = argparse.ArgumentParser(description=main.__doc__)
    arguments.add_argument("--requests", type=int, default=12800, help="prompts a client")
    arguments.add_argument("--concurrency", type=int, default=64, help="requests in flight")
    arguments.add_argument("--repetitions", type=int, default=1, help="rounds of all clients in turn")
    arguments.add_argument("--images", action="store_true", help="send an image a post too (this project alone)")
    arguments.add_argument(
        "--peer", action="append", default=[], metavar="NAME=PYTHON", help="curator or distilabel, and its Python"
    )
    options = arguments.parse_args()
    clients = {"mulcot_rd": sys.executable, **dict(peer.split("=", 1) for peer in options.peer)}
    ideal = options.concurrency / LATENCY_S
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        tasks = [(name, python, False) for name, python in clients.items()]
        if options.images:
            tasks.append(("mulcot_rd", sys.executable, True))
        for repetition in range(options.repetitions):
            for name, python, images in tasks:
                folder = Path(scratch) / f"{name}-{images}-{repetition}"
                short = measure(name, python, folder / "short", SHORT, options.concurrency, images)
                long = measure(name, python, folder / "long", options.requests, options.concurrency, images)
                per_thousand = 1000 * (long.cpu_s - short.cpu_s) / (long.requests - short.requests)
                rows.append(
                    {
                        **asdict(long),
                        "images": images,
                        "concurrency": options.concurrency,
                        "latency_s": LATENCY_S,
                        "share_of_ideal": long.requests_per_s / ideal,
                        "cpu_s_per_1000": per_thousand,
                        "cores": os.cpu_count(),
                        "load_before": os.getloadavg()[0],
                    }
                )
                print_row(rows[-1], header=len(rows) == 1)
    results = ROOT / "bench" / "results"
    results.mkdir(exist_ok=True)
    (results / "teacher.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def print_row(row: dict, *, header: bool) -> None:
    """A line of the table."""
    columns = {
        "client": row["client"] + (", images" if row["images"] else ""),
        "requests/s": f"{row['requests_per_s']:.0f}",
        "of ideal": f"{row['share_of_ideal']:.1%}",
        "CPU s / 1,000": f"{row['cpu_s_per_1000']:.2f}",
        "memory MiB": f"{row['peak_mib']:.0f}",
        "whole run s": f"{row['wall_s']:.1f}",
        "most in flight": row["most_in_flight"],
        "requests": row["requests"],
        "answers": row["answered"],
    }
    if header:
        print("| " + " | ".join(columns) + " |")
        print("| --- |" + " ---: |" * (len(columns) - 1))
    print("| " + " | ".join(str(value) for value in columns.values()) + " |", flush=True)


def measure(name: str, python: str, folder: Path, requests: int, concurrency: int, images: bool) -> Measured:
    """Run one client over ``requests`` prompts against a new server.

    Raises:
        RuntimeError: If the client fails; the message ends with what it wrote.
    """
    folder.mkdir(parents=True)
    prompts = folder / "posts.json"
    prompts.write_text(json.dumps(make_rows(requests, folder, images=images)), encoding="utf-8")
    with serving() as url, (folder / "output").open("w+", encoding="utf-8") as output:
        command = [python, str(RUNNERS / f"run_{name}.py"), url, str(prompts), str(concurrency), str(folder)]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=folder)
        watch = MemoryWatch(process.pid)
        watch.start()
        timer = threading.Timer(LONGEST_RUN_S, process.kill)
        timer.start()
        # Of the client and of all its children that it waited for.
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        timer.cancel()
        wall_s = time.perf_counter() - started
        watch.stop()
        output.seek(0)
        said = output.read()
        if process.returncode != 0:
            raise RuntimeError(f"{name} ended with {process.returncode}:\n{said[-3000:]}")
        with urllib.request.urlopen(url.removesuffix("/v1") + "/log") as response:
            log = json.load(response)
    return Measured(
        client=f"{name} {version(name, python)}",
        requests=log["requests"],
        answered=int(said.split()[-1]),
        most_in_flight=log["most_in_flight"],
        requests_per_s=log["requests"] / (log["last_s"] - log["first_s"]),
        wall_s=wall_s,
        cpu_s=used.ru_utime + used.ru_stime,
        peak_mib=watch.peak_mib,
    )


def make_rows(count: int, folder: Path, *, images: bool) -> list[dict]:
    """Posts and their prompts, each with an image file of its own, or all with one that is not sent."""
    rows = []
    for number in range(count):
        image = folder / f"{number if images else 0}.jpg"
        if not image.exists():
            Image.effect_noise((640, 480), 20 + number % 50).convert("RGB").save(image, quality=80)
        post = Post(
            id=f"p{number}",
            split="test",
            text=f"Number {number}: a long queue at the Harbour Grill, and then it was worth every minute of it",
            aspect="Harbour Grill",
            image=str(image),
            label="neutral",
        )
        send = "image" if images else "text"
        rows.append({"post": post.model_dump(mode="json"), "send": send, "prompt": teacher_prompt(post, send=send)})
    return rows


@contextmanager
def serving() -> Iterator[str]:
    """A server with the latency, in a process of its own on the last core; its address."""
    script = json.dumps({"latency_s": [LATENCY_S, LATENCY_S]})
    command = [sys.executable, str(ROOT / "tests" / "teacher" / "fault_server.py"), "--script", script]
    process = subprocess.Popen([*command, "--lifetime", str(2 * LONGEST_RUN_S)], stdout=subprocess.PIPE, text=True)
    try:
        os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def version(name: str, python: str) -> str:
    """The version of a client's package."""
    if name not in PACKAGES:
        return importlib.metadata.version("mulcot-rd")
    code = f"import importlib.metadata; print(importlib.metadata.version('{PACKAGES[name]}'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


class MemoryWatch(threading.Thread):
    """Looks at a process and its descendants four times a second and keeps the most memory they had together."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self._ended = threading.Event()
        self.peak_mib = 0.0

    def run(self) -> None:
        """Look until :meth:`stop`."""
        while not self._ended.wait(0.25):
            total = 0
            for process in [self._process, *self._descendants()]:
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.peak_mib = max(self.peak_mib, total / 2**20)

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()
        self.join()

    def _descendants(self) -> list[psutil.Process]:
        try:
            return self._process.children(recursive=True)
        except psutil.Error:
            return []


if __name__ == "__main__":
    main()
