"""Parameters, operations, latency and memory: the paper's Tables 10 to 12 from every run on disk."""

from functools import cache
from typing import Any

import pandas as pd

from mulcot_rd.models import FAMILIES, custom_checkpoints, parameter_counts
from mulcot_rd.reporting.published import published_rows
from mulcot_rd.reporting.runs import ModelCost, RunMetrics
from mulcot_rd.reporting.sources import PUBLISHED, source_of
from mulcot_rd.reporting.writers import ReportTable

COMPUTED = "computed from the configuration"
COST_CAPTIONS = {
    "table_10": "Parameters under LoRA, and the percentage that is trained (Table 10)",
    "table_11": "Cost of one prediction at batch size 1 (Table 11)",
    "table_12": "Cost of one prediction at batch size 1 (Table 12)",
}
_PARAMETERS = ("parameters", "trainable_parameters", "trainable_percent")
_COSTS = ("parameters_billion", "tflops", "latency_ms", "latency_p90_ms", "memory_gb")


def parameter_table(runs: list[RunMetrics]) -> ReportTable:
    """Table 10: total and trainable parameters, printed, computed without weights, and as counted in trained models."""
    rows = [{**row, "source": PUBLISHED} for row in published_rows("", (10,)).to_dict("records")]
    rows += [{"method": name, "source": COMPUTED, **counts} for name, counts in _computed().items()]
    counted: dict[tuple[str, int, int], dict[str, Any]] = {}
    for run in runs:
        for cost in run.efficiency.values():
            others = () if run.run.scale == "tiny" else custom_checkpoints([cost.model])
            row = {"method": cost.model, "source": source_of(run.run.scale, checkpoints=others)}
            row |= {name: getattr(cost, name) for name in _PARAMETERS}
            counted.setdefault((cost.model, cost.parameters, cost.trainable_parameters), row)
    frame = pd.DataFrame([*rows, *counted.values()], columns=["method", "source", *_PARAMETERS])
    return ReportTable(
        frame.astype({"parameters": "Int64", "trainable_parameters": "Int64"}),
        COST_CAPTIONS["table_10"],
        "Computed rows are counted in models that are built from their configuration, without weights.",
        {"trainable_percent": (4, 4)},
    )


def cost_table(runs: list[RunMetrics], number: int, printed: str, datasets: tuple[str, ...]) -> ReportTable:
    """Table 11 or 12: what one prediction costs at batch size 1, on the device that is named.

    Args:
        runs: Every run on disk.
        number: 11 or 12.
        printed: The data set that the paper's table is of.
        datasets: The data sets whose runs stand in this table.
    """
    rows: list[dict[str, Any]] = [
        {**row, "dataset": printed, "source": PUBLISHED}
        for row in published_rows(printed, (number,)).to_dict("records")
    ]
    for run in (run for run in runs if run.run.dataset in datasets):
        for role, cost in run.efficiency.items():
            rows += _cost_rows(run, role, cost)
    columns = ["dataset", "method", "run", "source", "prompt", "device", *_COSTS, "memory_of", "posts"]
    return ReportTable(
        pd.DataFrame(rows, columns=columns).astype({"posts": "Int64"}),
        COST_CAPTIONS[f"table_{number}"],
        "The paper names no device for its numbers; they are of samples of the test split. Measured latencies are the "
        "median and the 90th percentile of one greedy answer, one token at a time, from the image on disk to the "
        "text, over the first posts of the test split (posts says how many); operations are those of PyTorch's "
        "counter (matrix products, convolutions, attention) for the first of them; latencies and memory of different "
        "devices don't compare.",
        {
            "parameters_billion": (2, 4),
            "tflops": (2, 5),
            "latency_ms": (2, 2),
            "latency_p90_ms": (2, 2),
            "memory_gb": (2, 2),
        },
    )


def _cost_rows(run: RunMetrics, role: str, cost: ModelCost) -> list[dict[str, Any]]:
    return [
        {
            "dataset": run.run.dataset,
            "method": f"{role}, {cost.model}",
            "run": run.run.run,
            "source": run.run.source,
            "prompt": prompt,
            "device": f"{cost.device}, {cost.dtype}",
            "parameters_billion": cost.parameters / 1e9,
            "tflops": measured.tflops,
            "latency_ms": measured.latency_ms_median,
            "latency_p90_ms": measured.latency_ms_p90,
            "memory_gb": measured.memory_gb,
            "memory_of": measured.memory_of,
            "posts": measured.posts,
        }
        for prompt, measured in cost.prompts.items()
    ]


@cache
def _computed() -> dict[str, dict[str, float]]:
    """Counts of every model whose dimensions are kept, by the name that the paper gives it."""
    names = [hub_id for family in FAMILIES.values() for hub_id in family.full_configs]
    counts = {name.rpartition("/")[2].removesuffix("-Instruct"): parameter_counts(name) for name in names}
    return {
        name: dict(zip(_PARAMETERS, (total, trainable, 100 * trainable / total), strict=True))
        for name, (total, trainable) in counts.items()
    }
