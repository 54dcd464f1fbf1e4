"""The same history, adapter, answers and soft labels for any number of processes, whatever dies."""

import signal
from pathlib import Path

import pytest
from tests.distributed.jobs import KILLED, DyingTraining, cluster

from mulcot_rd.errors import UserError
from mulcot_rd.generation import trained_answers
from mulcot_rd.kept import Kept
from mulcot_rd.prompts import TASKS
from mulcot_rd.training.checkpoints import Checkpoints
from mulcot_rd.training.expansion import teacher_rows
from mulcot_rd.training.soft_label_writing import assistant_soft_labels
from mulcot_rd.training.soft_labels import SoftLabelParameters
from mulcot_rd.training.train import history_of, train_model


@pytest.fixture(scope="module")
def train(all_posts, reasonings, checkpoint, parameters):
    """Trains assistant or student in a folder."""

    def run(name, folder, workers, soft_labels=None, **given):
        own = parameters(name, workers, **given)
        return train_model(name, own, all_posts, teacher_rows(reasonings), soft_labels, checkpoint, folder)

    return run


def _label(manifest, parameters, all_posts, reasonings, folder, workers):
    own = parameters("assistant", workers)
    return assistant_soft_labels(
        Path(manifest["folder"]), own.backbone, all_posts, teacher_rows(reasonings), list(TASKS),
        SoftLabelParameters(rows_per_shard=2, batch_size=2),
        weights=manifest["weights"], kept=Kept(folder, "soft_labels"), cluster=own.cluster,
    )  # fmt: skip


@pytest.fixture(scope="module")
def assistant(train, tmp_path_factory):
    """An assistant that one process trained."""
    return train("assistant", tmp_path_factory.mktemp("alone"), 1)


@pytest.fixture(scope="module")
def soft_labels(assistant, parameters, all_posts, reasonings, tmp_path_factory):
    return _label(assistant, parameters, all_posts, reasonings, tmp_path_factory.mktemp("soft"), 1)


@pytest.mark.parametrize("workers", [2, 3])
def test_training_gives_the_same_bytes(train, assistant, soft_labels, tmp_path, tmp_path_factory, workers):
    """Manifests hold the hash of every file, the history among them."""
    shared = train("assistant", tmp_path / "assistant", workers)
    assert {**shared, "folder": ""} == {**assistant, "folder": ""}
    alone = train("student", tmp_path / "alone", 1, soft_labels)
    assert {**train("student", tmp_path / "student", workers, soft_labels), "folder": ""} == {**alone, "folder": ""}


def test_answers_and_soft_labels_are_the_same(assistant, soft_labels, parameters, all_posts, reasonings, tmp_path):
    own = parameters("assistant", 1)
    asked = {"weights": "x", "seed": 1}
    where = (Path(assistant["folder"]), own.backbone, all_posts, list(TASKS), own.generation)
    alone = trained_answers("one", *where, folder=tmp_path / "1", cluster=cluster(1), **asked)
    assert trained_answers("two", *where, folder=tmp_path / "2", cluster=cluster(2), **asked) == alone
    written = [{path.name: path.read_bytes() for path in tmp_path.glob(f"{n}/*/unit-*.jsonl")} for n in (1, 2)]
    assert written[0] == written[1]
    assert len(written[0]) > 2
    shared = _label(assistant, parameters, all_posts, reasonings, tmp_path, 2)
    assert shared.manifest == soft_labels.manifest


def test_a_start_that_was_killed_goes_on_with_another_number_of_processes(train, assistant, tmp_path, monkeypatch):
    save = Checkpoints.save

    def dying(self, state, *given):
        save(self, state, *given)
        if state.step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", dying)
    with pytest.raises(KeyboardInterrupt):
        train("assistant", tmp_path, 1)
    monkeypatch.undo()
    assert {**train("assistant", tmp_path, 2), "folder": ""} == {**assistant, "folder": ""}


def test_workers_that_are_killed_change_nothing(train, assistant, tmp_path, monkeypatch):
    monkeypatch.setattr("mulcot_rd.training.train.TrainingJob", DyingTraining)
    mark = tmp_path / "killed"
    done = train("assistant", tmp_path, 2, environment={KILLED: str(mark)}, max_failures=2)
    assert mark.read_text() == "10"
    assert {**done, "folder": ""} == {**assistant, "folder": ""}


def test_a_driver_that_is_killed_is_gone_on_from(job_file, assistant, run_job, tmp_path, family_name):
    if family_name != "qwen3_vl":
        pytest.skip("one family: what differs between them, processes don't see")
    process, out = run_job(job_file(tmp_path, epochs=2), kill_after_steps=2)
    assert process.returncode == -signal.SIGKILL, out
    process, out = run_job(job_file(tmp_path, epochs=2))
    assert process.returncode == 0, out
    done = Kept(tmp_path, "assistant").find(assistant["fingerprint"])
    assert {**done, "folder": ""} == {**assistant, "folder": ""}


def test_more_workers_than_micro_batches_are_refused(train, tmp_path):
    with pytest.raises(UserError, match=r"4 workers can't share the 3 micro-batches of a step of the assistant.*to 3"):
        train("assistant", tmp_path, 4)


def test_sharded_weights_change_nothing(train, tmp_path, family_name):
    """Three micro-batches, two processes: one runs a pass for nothing. Dev posts are scored with whole weights."""
    if family_name == "flan_t5":
        with pytest.raises(UserError, match=r"shards frozen weights, and all of this model are trained"):
            train("assistant", tmp_path, 2, shard_base=True)
        return
    whole = train("assistant", tmp_path / "whole", 2, lora=True)
    shared = train("assistant", tmp_path / "sharded", 2, lora=True, shard_base=True)
    assert {**shared, "folder": ""} == {**whole, "folder": ""}


def test_sums_in_float32_differ_by_rounding_alone(train, tmp_path):
    histories = [
        history_of(Path(train("assistant", tmp_path / str(workers), workers, gradient_sum="float32")["folder"]))
        for workers in (1, 2)
    ]
    for one, other in zip(*histories, strict=True):
        assert one == pytest.approx(other, rel=1e-3)
