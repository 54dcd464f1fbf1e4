"""A server with the Batch API in place of the other one, and posts whose retries and stage two take several batches."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from batch_server import BatchServer, batch_parameters
from fault_server import Script

from mulcot_rd.schema import Post
from mulcot_rd.teacher import TeacherParameters, batch


@pytest.fixture
def server(monkeypatch) -> Iterator[BatchServer]:
    monkeypatch.setattr(batch, "QUIET_S", 0.1)
    with BatchServer(script=Script(seed=3, flaw_share=0.3)).running() as server:
        yield server


@pytest.fixture
def parameters(server) -> Callable[..., TeacherParameters]:
    return partial(batch_parameters, server)


@pytest.fixture
def posts(make_post) -> list[Post]:
    return [make_post(number, ("positive", "negative", "neutral")[number % 3]) for number in range(12)]
