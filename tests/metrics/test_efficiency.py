import time

import pytest
import torch
from torch.nn import functional

from mulcot_rd.metrics.efficiency import count_flops, device_name, measure_efficiency, peak_memory

CPU = torch.device("cpu")


def test_a_product_of_matrices_counts_two_operations_a_multiplication():
    left, right = torch.ones(3, 5), torch.ones(5, 7)
    assert count_flops(lambda: left @ right) == 2 * 3 * 5 * 7


def test_attention_counts_on_the_cpu_as_well():
    """Two products of [queries, keys] by the head's width; and as many as when the products are written out."""
    query, key, value = (torch.randn(2, 4, length, 16) for length in (6, 9, 9))
    by_hand = 2 * 2 * (2 * 4) * 6 * 9 * 16
    with torch.no_grad():
        assert count_flops(lambda: functional.scaled_dot_product_attention(query, key, value)) == by_hand
        assert count_flops(lambda: (query @ key.transpose(2, 3)).softmax(-1) @ value) == by_hand


def test_every_item_is_timed_on_its_own():
    seen, counted = [], []

    def predict(items, finished):
        for number, item in enumerate(items):
            seen.append(item)
            # What the first of a call sets up is no part of a prediction.
            time.sleep((0.1 if item == 2 else 0.01) + 0.1 * (number == 0))
            finished()

    def plain(items, finished):
        counted.extend(items)
        torch.ones(4, 4) @ torch.ones(4, 4)

    measured = measure_efficiency(predict, [1, 2, 3], CPU, max_seconds=60, plain=plain)
    assert counted == [1]
    assert seen == [1, 1, 1, 2, 3]
    assert measured["posts"] == 3
    assert measured["tflops"] == 128 / 1e12
    assert 10 <= measured["latency_ms_median"] < 80
    assert measured["latency_ms_p90"] > measured["latency_ms_median"]
    assert measured["memory_of"] == "process, resident"
    assert 0 < measured["memory_gb"] < 100


def test_measuring_ends_when_its_time_is_up_but_never_before_the_first():
    def predict(items, finished):
        for _ in items:
            time.sleep(0.05)
            finished()

    for seconds, posts in ((0.01, 1), (0.18, 3)):
        measured = measure_efficiency(predict, list(range(100)), CPU, max_seconds=seconds, plain=predict)
        assert measured["posts"] == posts
    with pytest.raises(ValueError, match="test split is empty"):
        measure_efficiency(predict, [], CPU, max_seconds=1, plain=predict)


def test_peak_memory_sees_what_was_held_and_given_back():
    with peak_memory(CPU) as before:
        pass
    with peak_memory(CPU) as during:
        held = torch.ones(64, 1024, 1024)
        time.sleep(0.05)
        del held
    assert during["bytes"] - before["bytes"] > 200 * 1024**2


def test_the_device_has_a_name():
    assert device_name(CPU).endswith(("thread", "threads"))
    assert len(device_name(CPU)) > len("1 thread, ")
