"""Measuring two ways of doing the same work: in turns, or each in a process of its own where memory is measured."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

FOLDER = Path(__file__).parent


def alternate(forms: Sequence[Callable[[], object]], repetitions: int) -> list[float]:
    """Median seconds of each form, run in turns after one untimed round."""
    return alternate_timed([partial(_timed, form) for form in forms], repetitions)


def alternate_timed(forms: Sequence[Callable[[], float]], repetitions: int) -> list[float]:
    """As :func:`alternate`, of forms that time themselves."""
    rounds = [[form() for form in forms] for _ in range(repetitions + 1)]
    return [statistics.median(times) for times in zip(*rounds[1:], strict=True)]


def _timed(form: Callable[[], object]) -> float:
    started = time.perf_counter()
    form()
    return time.perf_counter() - started


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
    """Peak of resident memory of this process since it began, in MiB.

    Not ``ru_maxrss``: a process started by a large one inherits that one's peak there.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
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
