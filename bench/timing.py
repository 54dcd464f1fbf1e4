"""Measuring two ways of doing the same work: in turns, or each in a process of its own where memory is measured."""

import json
import multiprocessing
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import torch
from mulcot_rd.worker_pool import WorkerPool

Result = TypeVar("Result")

FOLDER = Path(__file__).parent


def alternate(forms: Sequence[Callable[[], object]], repetitions: int) -> list[float]:
    """Median seconds of each form, run in turns after one untimed round."""
    seconds: list[list[float]] = [[] for _ in forms]
    for repetition in range(repetitions + 1):
        for number, form in enumerate(forms):
            started = time.perf_counter()
            form()
            if repetition:
                seconds[number].append(time.perf_counter() - started)
    return [statistics.median(times) for times in seconds]


def with_workers(pool: WorkerPool, run: Callable[[], Result], stack: ExitStack) -> Callable[[], Result]:
    """``run`` by a pool whose workers stay until ``stack`` closes; between its runs this process has all threads."""
    threads = torch.get_num_threads()
    stack.enter_context(pool)
    own = torch.get_num_threads()
    torch.set_num_threads(threads)

    def timed() -> Result:
        torch.set_num_threads(own)
        try:
            return run()
        finally:
            torch.set_num_threads(threads)

    return timed


def peak_mebibytes(module: str, arguments: Sequence[str], repetitions: int) -> float:
    """Median peak of resident memory (MiB) of ``bench/<module>.py arguments``, which prints its own as its last line.

    A process of its own each time: a peak never comes down again.
    """
    peaks = []
    for _ in range(repetitions):
        command = [sys.executable, str(FOLDER / f"{module}.py"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
        peaks.append(json.loads(done.stdout.splitlines()[-1])["peak_mebibytes"])
    return statistics.median(peaks)


def own_peak_mebibytes() -> float:
    """Peak of resident memory of this process and its workers since they began, in MiB.

    Not ``ru_maxrss``: a process started by a large one inherits that one's peak there. What processes share counts in
    each of them, so the sum is a little more than they take.
    """
    return sum(_peak_of(process) for process in ("self", *(child.pid for child in multiprocessing.active_children())))


def _peak_of(process: str | int) -> float:
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) / 1024


def row(
    name: str, scale: str, ours: float, reference: float, reference_name: str, unit: str, repetitions: int
) -> dict[str, object]:
    """One row of ``bench.json``; ``ratio`` is ours over the reference, so that a smaller one is better for memory."""
    return {
        "name": name,
        "scale": scale,
        "ours": ours,
        "reference": reference,
        "reference_name": reference_name,
        "ratio": ours / reference if reference else None,
        "unit": unit,
        "repetitions": repetitions,
    }
