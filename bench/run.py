"""Benchmarks against the method as written, in one run; results go to ``bench/results/bench.json`` and the screen.

Each subject is a module of its own with a function ``rows``. All models are small and random (``bench/settings.py``):
the figures compare ways of doing the same work on this machine, and say nothing about the paper's models.
"""

import argparse
import importlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from settings import ROOT

SUBJECTS = ("training", "generation", "soft_labels", "metrics")


def main() -> None:
    """Print and write each row as soon as it is measured."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repetitions", type=int, default=3, help="alternating repetitions of each form")
    arguments.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=SUBJECTS, help="what to measure")
    arguments.add_argument("--trl", metavar="PYTHON", help="Python of an environment with TRL, to stand beside ours")
    options = arguments.parse_args()
    os.chdir(ROOT)
    # The rows are the progress.
    os.environ.setdefault("TQDM_DISABLE", "1")
    print("| name | scale | ours | reference | reference_name | ratio | unit | repetitions |")
    print("| --- | --- | ---: | ---: | --- | ---: | --- | ---: |", flush=True)
    found: list[dict] = []
    with tempfile.TemporaryDirectory() as scratch:
        for row in _measured(options, Path(scratch)):
            found.append(row)
            _write(found)
            print("| " + " | ".join(_cell(value) for value in row.values()) + " |", flush=True)


def _measured(options: argparse.Namespace, scratch: Path) -> Iterator[dict]:
    for subject in options.subjects:
        yield from importlib.import_module(subject).rows(scratch, options.repetitions)
    if options.trl:
        yield importlib.import_module("trl_peer").row_of(scratch, options.repetitions, options.trl)


def _write(rows: list[dict]) -> None:
    results = ROOT / "bench" / "results"
    results.mkdir(exist_ok=True)
    (results / "bench.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _cell(value: object) -> str:
    if value is None:
        return ""
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 10
        else (f"{value:.1f}" if isinstance(value, float) else str(value))
    )


if __name__ == "__main__":
    main()
