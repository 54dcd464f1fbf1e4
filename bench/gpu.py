"""The paper's models on one GPU, full size, random weights: training, latency, evaluation; in under ten minutes.

``python bench/gpu.py`` prints a table and writes ``bench/results/gpu.json``. Each part runs in a process of its own
with a time limit: one that fails or takes too long leaves the others, and what it had measured before. ``--scale tiny
--device cpu`` tries the same code without a GPU. What is measured, and how, stands in ``bench/gpu_parts.py``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers

from devices import PEAKS
from gpu_models import AMOUNTS, Models, ScaleName
from gpu_parts import PARTS
from mulcot_rd.metrics.efficiency import device_name
from mulcot_rd.reporting.published import published
from settings import ROOT

# Architectures with the same assistant and student as one of those measured (Table 2).
SAME_MODELS = {1: "1, 3", 2: "2, 4", 3: "1, 3", 4: "2, 4"}
# The paper's figures (one prediction at batch 1) that stand beside a measured one.
PUBLISHED = {"latency": "latency_ms", "inference_peak_memory": "memory_gb"}
TABLES = (11, 12)
COLUMNS = ("architectures", "model", "part", "name", "value", "unit", "aim", "table_11", "table_12")
# A part may take so many times its even share of the time that is left; most need less than theirs.
GENEROSITY = 2.5


@dataclass(frozen=True)
class Ended:
    """How a part's process ended.

    Attributes:
        rows: What it had measured.
        fault: Why it ended early; ``None`` if it did not.
    """

    rows: list[dict[str, Any]]
    fault: str | None


def main() -> None:
    """Run the parts, write the JSON, print the table."""
    options = _options()
    os.chdir(ROOT)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("bench/gpu.py: PyTorch sees no GPU; `--scale tiny --device cpu` tries the same code without one")
    deadline = time.monotonic() + 60 * options.minutes
    wanted = [(part, arch) for part in PARTS if part in options.parts for arch in options.architectures]
    found = []
    for number, (part, arch) in enumerate(wanted):
        left = deadline - time.monotonic()
        limit = min(left, GENEROSITY * left / (len(wanted) - number))
        found += measured(part, arch, options.scale, device, limit)
    report = {**environment(device), "scale": options.scale, "weights": "random", "rows": found}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(markdown(report))


def measured(part: str, architecture: int, scale: ScaleName, device: torch.device, limit: float) -> list[dict]:
    """The rows of one part, the paper's figures beside them; a part that ended early has a row that says why."""
    print(f"architecture {architecture}, {part} ...", file=sys.stderr, flush=True)
    command = [sys.executable, str(Path(__file__).with_name("gpu_parts.py")), part]
    ended = run_part([*command, str(architecture), scale, str(device)], limit)
    role = "assistant" if part.startswith("assistant") else "student"
    models = Models(architecture, scale, device, Path())
    model = models.backbone(role).model.rpartition("/")[2].removesuffix("-Instruct")
    full, rows = scale == "full", ended.rows
    if ended.fault is not None:
        rows = [*rows, {"name": "ended early", "value": None, "unit": ended.fault, "aim": ""}]
    shown = model if full else f"tiny, in place of {model}"
    about = {"architectures": SAME_MODELS[architecture], "model": shown, "part": part}
    made = []
    for row in rows:
        # Aims and published figures are of the paper's models: beside a tiny one they would mean nothing.
        tables = {f"table_{table}": published_figure(table, model, row["name"]) if full else None for table in TABLES}
        made.append({**about, **row, **tables, **({} if full else {"aim": ""})})
    return made


def run_part(command: Sequence[str], limit: float) -> Ended:
    """Run a process that prints rows as lines of JSON, for so many seconds at most."""
    if limit <= 0:
        return Ended([], "not begun: the time was used up")
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=output, stderr=errors)
        try:
            code = process.wait(timeout=limit)
            fault = None
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
            fault = f"stopped after {limit:.0f} s"
        output.seek(0)
        errors.seek(0)
        rows = [json.loads(line) for line in output.read().splitlines() if line.startswith("{")]
        said = errors.read().strip().splitlines()
    if code and fault is None:
        fault = f"ended with {code}: {said[-1][:300] if said else ''}"
    return Ended(rows, fault)


def published_figure(table: int, model: str, name: str) -> float | None:
    """The paper's figure for a model, where one of its tables prints what was measured."""
    rows = published()
    rows = rows[(rows["table"] == table) & (rows["method"] == model) & (rows["metric"] == PUBLISHED.get(name))]
    return None if rows.empty else float(rows["value"].iloc[0])


def environment(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on and with."""
    name = device_name(device)
    peak = PEAKS.get(name)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "device": name,
        "driver": _driver() if device.type == "cuda" else None,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "transformers": transformers.__version__,
        "peak_tflops": None if peak is None else peak.flops / 1e12,
        "bandwidth_tb_per_s": None if peak is None else peak.bandwidth / 1e12,
    }


def markdown(report: dict[str, Any]) -> str:
    """The report as a table, under what it was measured on."""
    size = "full size" if report["scale"] == "full" else "tiny models of the same families, no figure for the paper's"
    drive = f", driver {report['driver']}" if report["driver"] else ""
    lines = [
        f"{report['device']}{drive}, torch {report['torch']}, {report['date']}. RANDOM WEIGHTS, {size}; random token "
        "ids, lengths of real posts. Tables 11 and 12: the paper's, one prediction at batch 1, ms and GB.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "| --- | --- | --- | --- | ---: | --- | --- | ---: | ---: |",
    ]
    return "\n".join([*lines, *(f"| {' | '.join(_cell(row[name]) for name in COLUMNS)} |" for row in report["rows"])])


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) and value < 1000 else _long(value)


def _long(value: object) -> str:
    return f"{value:.0f}" if isinstance(value, float) else str(value).replace("|", "/")


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]


def _options() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--scale", choices=tuple(AMOUNTS), default="full", help="tiny is for a trial without a GPU")
    arguments.add_argument("--device", default="cuda", help="where the models run: cuda, cuda:1, cpu")
    arguments.add_argument(
        "--architectures", nargs="+", type=int, choices=tuple(SAME_MODELS), default=[4, 1], help="of Table 2"
    )
    arguments.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=list(PARTS), help="what to measure")
    arguments.add_argument("--minutes", type=float, default=9.5, help="time for all parts together")
    arguments.add_argument("--output", type=Path, help="JSON file; bench/results/gpu.json, at tiny scale gpu_tiny.json")
    options = arguments.parse_args()
    name = "gpu.json" if options.scale == "full" else f"gpu_{options.scale}.json"
    options.output = (options.output or ROOT / "bench" / "results" / name).absolute()
    return options


if __name__ == "__main__":
    main()
