"""The same history, adapter, answers and soft labels for any number of processes, whatever dies."""

from pathlib import Path

import pytest

from mulcot_rd.errors import UserError
from mulcot_rd.training.train import history_of

pytestmark = pytest.mark.slow

# The families of the paper; where processes don't see what differs between them, one.
FAMILIES = pytest.mark.parametrize("family_name", ["flan_t5", "qwen2_5_vl", "qwen3_vl"], indirect=True)
ONE = pytest.mark.parametrize("family_name", ["qwen3_vl"], indirect=True)


# Two processes share the three micro-batches of a step unevenly.
@pytest.mark.parametrize(
    ("family_name", "workers"),
    [("flan_t5", 2), ("qwen2_5_vl", 2), ("qwen3_vl", 2), ("qwen3_vl", 3)],
    indirect=["family_name"],
)
def test_training_gives_the_same_bytes(train, assistant, soft_labels, tmp_path, workers):
    """Manifests hold the hash of every file, the history among them."""
    shared = train("assistant", tmp_path / "assistant", workers)
    assert {**shared, "folder": ""} == {**assistant, "folder": ""}
    alone = train("student", tmp_path / "alone", 1, soft_labels)
    assert {**train("student", tmp_path / "student", workers, soft_labels), "folder": ""} == {**alone, "folder": ""}


@FAMILIES
def test_answers_and_soft_labels_are_the_same(assistant, soft_labels, ask, label, tmp_path):
    assert ask(tmp_path / "2", 2) == ask(tmp_path / "1", 1)
    written = [{path.name: path.read_bytes() for path in tmp_path.glob(f"{n}/*/unit-*.jsonl")} for n in (1, 2)]
    assert written[0] == written[1]
    assert len(written[0]) > 2
    assert label(tmp_path, 2).manifest == soft_labels.manifest


@ONE
def test_more_workers_than_micro_batches_are_refused(train, tmp_path):
    with pytest.raises(UserError, match=r"4 workers can't share the 3 micro-batches of a step of the assistant.*to 3"):
        train("assistant", tmp_path, 4)


@FAMILIES
def test_sharded_weights_change_nothing(train, tmp_path, family_name):
    """Three micro-batches, two processes: one runs a pass for nothing. Dev posts are scored with whole weights."""
    if family_name == "flan_t5":
        with pytest.raises(UserError, match=r"shards frozen weights, and all of this model are trained"):
            train("assistant", tmp_path, 2, shard_base=True)
        return
    whole = train("assistant", tmp_path / "whole", 2, lora=True)
    shared = train("assistant", tmp_path / "sharded", 2, lora=True, shard_base=True)
    assert {**shared, "folder": ""} == {**whole, "folder": ""}


@ONE
def test_sums_in_float32_differ_by_rounding_alone(train, tmp_path):
    histories = [
        history_of(Path(train("assistant", tmp_path / str(workers), workers, gradient_sum="float32")["folder"]))
        for workers in (1, 2)
    ]
    for one, other in zip(*histories, strict=True):
        assert one == pytest.approx(other, rel=1e-3)
