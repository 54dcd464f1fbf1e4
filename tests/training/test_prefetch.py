"""Preparing ahead: order, errors, and an end when nobody takes what was prepared."""

import threading

import pytest

from mulcot_rd.training.prefetch import ahead


def test_results_come_in_order_and_from_another_thread():
    seen = list(ahead(lambda item: (item * item, threading.get_ident()), range(20), depth=3))
    assert [value for value, _ in seen] == [item * item for item in range(20)]
    assert threading.get_ident() not in {thread for _, thread in seen}


def test_no_more_is_prepared_than_was_asked_for():
    made = []
    results = ahead(made.append, range(100), depth=2)
    next(results)
    results.close()
    assert len(made) <= 4


def test_an_error_is_raised_where_its_result_would_have_been_taken():
    results = ahead(lambda item: 1 / (2 - item), range(5))
    assert [next(results), next(results)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)
