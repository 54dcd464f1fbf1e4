"""What a prediction costs on the device at hand: operations, time and memory (paper, Figure 3, Tables 11 and 12)."""

import platform
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil
import torch
from pydantic import Field
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from mulcot_rd.schema import Record

T = TypeVar("T")
GIB = 1024**3
_SAMPLING_INTERVAL_S = 0.005


class EfficiencyParameters(Record):
    """How much of the test split is spent on measuring (batch size 1, as in the paper's Figure 3)."""

    posts: int = Field(5, ge=1, description="Test posts whose prediction is timed, the first so many")
    max_seconds: float = Field(
        60.0, gt=0, description="Seconds a model and prompt, about; as many posts are timed as fit, at least one"
    )


# Makes one prediction after another, from the items to the texts, and calls back behind each.
Predictor = Callable[[Sequence[T], Callable[[], None]], object]


def measure_efficiency(
    predict: Predictor[T], items: Sequence[T], device: torch.device, *, max_seconds: float, plain: Predictor[T]
) -> dict[str, Any]:
    """Measure single predictions, one after another.

    The first one is made before any is timed: what it sets up is no part of a prediction.

    Args:
        predict: Makes the predictions on ``device``.
        items: What to predict, at least one.
        device: Where the model is.
        max_seconds: About how long to measure: as many items as fit, by the time of the first one; one always does.
        plain: Makes the same predictions where PyTorch sees every operation; it doesn't see into captured graphs.

    Returns:
        ``tflops`` (10^12 floating-point operations of the first item, a multiplication and an addition counting as
        two; element-wise operations are not counted), ``latency_ms_median``, ``latency_ms_p90``, ``posts`` (how many
        were timed), ``memory_gb`` (peak, 2^30 bytes, as the paper's GB: 8.81 billion bfloat16 weights make 16.4 of
        its 16.61) and ``memory_of`` (what that peak is of).

    Raises:
        ValueError: If there are no items.
    """
    if len(items) == 0:
        raise ValueError("there is no post to measure a prediction on: the test split is empty")
    tflops = count_flops(lambda: plain(items[:1], lambda: None)) / 1e12
    (first,) = _milliseconds(predict, items[:1], device)
    fitting = max(1, int(1000 * max_seconds / max(first, 1e-3)))
    with peak_memory(device) as memory:
        latencies = _milliseconds(predict, [items[0], *items[:fitting]], device)[1:]
    return {
        "tflops": tflops,
        "latency_ms_median": statistics.median(latencies),
        "latency_ms_p90": float(np.percentile(latencies, 90)),
        "posts": len(latencies),
        "memory_gb": memory["bytes"] / GIB,
        "memory_of": memory["of"],
    }


def _milliseconds(predict: Predictor[T], items: Sequence[T], device: torch.device) -> list[float]:
    """How long each prediction took."""
    _wait_for(device)
    moments = [time.perf_counter()]

    def finished() -> None:
        _wait_for(device)
        moments.append(time.perf_counter())

    predict(items, finished)
    return [1000 * (end - start) for start, end in pairwise(moments)]


def count_flops(call: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products, convolutions and attentions that a call makes."""
    # PyTorch's counter knows the attention kernels of GPUs alone; those for CPUs take the same arguments.
    mapping = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention_flops,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _cpu_attention_backward_flops,
    }
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        call()
    return counter.get_total_flops()


def device_name(device: torch.device) -> str:
    """The device as a reader knows it: model of the GPU, or of the CPU with the threads that PyTorch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_model()}, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"


@contextmanager
def peak_memory(device: torch.device) -> Iterator[dict[str, Any]]:
    """Watch memory while the block runs; what is yielded holds ``bytes`` and ``of`` afterwards."""
    found: dict[str, Any] = {"bytes": 0, "of": "process, resident"}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield found
        found.update(bytes=torch.cuda.max_memory_allocated(device), of="GPU, allocated by PyTorch")
        return
    process, done = psutil.Process(), threading.Event()

    def watch() -> None:
        while True:
            found["bytes"] = max(found["bytes"], process.memory_info().rss)
            if done.wait(_SAMPLING_INTERVAL_S):
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        done.set()
        watcher.join()


def _cpu_attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _cpu_attention_backward_flops(
    gradient: Sequence[int], query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any
) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _cpu_model() -> str:
    # platform.processor() is empty on most Linux systems.
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
