"""Whatever is killed, the result has the bytes of an undisturbed run."""

import signal

import pytest
from tests.distributed.model_jobs import KILLED, DyingAnswers, DyingSoftLabels, DyingTraining

from mulcot_rd.training.checkpoints import Checkpoints

# One family: what differs between them, processes don't see.
pytestmark = [pytest.mark.slow, pytest.mark.parametrize("family_name", ["qwen3_vl"], indirect=True)]


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


def test_a_driver_of_two_that_is_killed_is_gone_on_from_by_one(job_file, train, assistant, run_job, tmp_path):
    process, out = run_job(job_file(tmp_path), kill_after_steps=2)
    assert process.returncode == -signal.SIGKILL, out
    assert {**train("assistant", tmp_path, 1), "folder": ""} == {**assistant, "folder": ""}


def test_a_worker_that_is_killed_while_it_answers_changes_nothing(ask, tmp_path):
    """The unit that it had finished is not written twice."""
    mark = tmp_path / "killed"
    shared = ask(tmp_path / "2", 2, {KILLED: str(mark)}, DyingAnswers)
    units = list(tmp_path.glob("2/*/unit-*"))
    (finished,) = (path for path in units if f'"post_id": "{mark.read_text()}"' in path.read_text())
    assert finished.stat().st_mtime < mark.stat().st_mtime < max(path.stat().st_mtime for path in units)
    assert shared == ask(tmp_path / "1", 1)


def test_a_worker_that_is_killed_while_it_writes_soft_labels_changes_nothing(soft_labels, label, tmp_path, monkeypatch):
    monkeypatch.setattr("mulcot_rd.training.soft_label_writing.SoftLabelJob", DyingSoftLabels)
    mark = tmp_path / "killed"
    shared = label(tmp_path, 2, {KILLED: str(mark)})
    assert mark.exists()
    assert shared.manifest == soft_labels.manifest
