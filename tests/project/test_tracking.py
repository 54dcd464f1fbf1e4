"""Runs in a local MLflow: what is logged, once, and what never is."""

import json
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from mulcot_rd import tracking
from mulcot_rd.errors import UserError
from mulcot_rd.training.train import history_of
from tests.commands import ROOT, Forked, kedro_anew
from tests.project.conftest import FAST, RUN, SMALL, current, run

mlflow = pytest.importorskip("mlflow", reason="the extra tracking is not installed: pip install 'mulcot-rd[tracking]'")
pytestmark = pytest.mark.slow

TRACKED = f"{SMALL},tracking=true"
ADDRESS = "teacher.provider=openai,teacher.base_url=http://reader:hunter2@localhost:9/v1"


def client(project: Path):
    return mlflow.MlflowClient(f"sqlite:///{project / 'data' / 'mlflow' / 'mlflow.db'}")


def logged(project: Path) -> list:
    """The runs of MLflow on the data set, the oldest first."""
    [experiment] = [one for one in client(project).search_experiments() if one.name == "sample"]
    return client(project).search_runs([experiment.experiment_id], order_by=["start_time"])


def succeed(project: Path, *arguments: str) -> None:
    result = run(project, *arguments)
    assert result.returncode == 0, result.stderr[-4000:]


def artifacts(project: Path, run_id: str, folder: str = "") -> set[str]:
    return {file.path for file in client(project).list_artifacts(run_id, folder)}


def test_a_run_is_logged_once_however_it_is_divided_and_repeated(finished):
    succeed(finished, "--pipeline", "assistant_training", "--params", TRACKED)
    succeed(finished, "--params", f"{TRACKED},cluster.workers=1")
    succeed(finished, "--pipelines", "evaluation,reporting", "--params", TRACKED)

    [found] = logged(finished)
    assert (found.info.run_name, found.info.status) == ("arch4-tiny-full", "FINISHED")
    assert found.data.params["student.training.optimisation.epochs"] == "2"
    assert found.data.params["run.limit"] == "12"
    reports = finished / "data" / "08_reporting" / RUN
    scores = json.loads(current(reports / "metrics.json").read_text())
    assert found.data.metrics["student/accuracy"] == scores["student"]["accuracy"]
    store = client(finished)
    assert len(store.get_metric_history(found.info.run_id, "student/accuracy")) == 1
    for role in ("assistant", "student"):
        history = history_of(current(finished / "data" / "06_models" / RUN / role / "manifest.json").parent)
        for name, key in (("label_loss", "label_loss"), ("score", "dev_score")):
            points = store.get_metric_history(found.info.run_id, f"{role}/{key}")
            written = [(row["step"], row[name]) for row in history if name in row]
            assert sorted((point.step, point.value) for point in points) == written
        assert artifacts(finished, found.info.run_id, f"{role}_adapter") == {f"{role}_adapter/README.md"}
    assert {"tables/result_table.tex", "tables/table_3.md"} <= artifacts(finished, found.info.run_id, "tables")
    assert {"figures/training_curves.png", "figures/figure_3.svg"} <= artifacts(finished, found.info.run_id, "figures")
    assert "case_study.html" in artifacts(finished, found.info.run_id)


@pytest.fixture(scope="module")
def tracked(undisturbed, tmp_path_factory) -> Path:
    """A finished project, of which a run is logged: its tests log further ones."""
    project = shutil.copytree(undisturbed, tmp_path_factory.mktemp("tracked") / "project")
    succeed(project, "--pipeline", "assistant_training", "--params", f"{TRACKED},{ADDRESS}")
    return project


def test_no_password_reaches_the_store(tracked):
    [found] = logged(tracked)
    assert found.data.params["teacher.base_url"] == "http://localhost:9/v1"
    for path in (tracked / "data" / "mlflow").rglob("*"):
        assert path.is_dir() or b"hunter2" not in path.read_bytes()


def test_equal_parameters_with_another_model_make_another_run(tracked):
    with sqlite3.connect(tracked / "data" / "mlflow" / "mlflow.db") as database:
        database.execute("UPDATE tags SET value = 'of other posts' WHERE key = 'assistant_adapter'")
    before = logged(tracked)
    succeed(tracked, "--pipeline", "assistant_training", "--params", f"{TRACKED},{ADDRESS}")
    *same, new = logged(tracked)
    assert [one.info.run_id for one in same] == [one.info.run_id for one in before]
    assert new.data.params == same[0].data.params
    assert new.data.metrics["assistant/label_loss"] == same[0].data.metrics["assistant/label_loss"]


def test_other_parameters_make_another_run_and_a_kill_none(tracked):
    before = logged(tracked)
    other = ("--pipeline", "assistant_training", "--params", f"{FAST},tracking=true,{ADDRESS}")
    work = tracked / f"data/06_models/{RUN}/work/assistant"
    Forked(tracked, "run", *other).kill(
        lambda: any(work.glob("*/training/checkpoint/state.json")), "the assistant's training"
    )
    assert logged(tracked)[-1].info.status == "RUNNING"
    succeed(tracked, *other)
    *same, new = logged(tracked)
    assert new.info.status == "FINISHED"
    assert [one.info.run_id for one in same] == [one.info.run_id for one in before]
    epochs = "assistant.training.optimisation.epochs"
    assert (same[0].data.params[epochs], new.data.params[epochs]) == ("2", "1")
    assert same[0].data.tags["assistant_adapter"] != new.data.tags["assistant_adapter"]


def test_a_store_that_was_moved_is_refused(tracked, tmp_path):
    elsewhere = shutil.copytree(tracked, tmp_path / "elsewhere")
    result = run(elsewhere, "--pipeline", "assistant_training", "--params", TRACKED)
    assert result.returncode != 0
    assert "mlflow was moved" in result.stderr


def test_nothing_is_logged_before_there_is_a_model(project):
    succeed(project, "--pipeline", "data_preparation", "--params", "limit=12,tracking=true")
    assert not [one for one in client(project).search_experiments() if one.name == "sample"]


def test_off_it_imports_nothing_and_writes_nothing(project, tmp_path):
    (tmp_path / "mlflow.py").write_text("raise AssertionError('imported')\n")
    path = f"{tmp_path}:{ROOT / 'src'}"
    result = kedro_anew(project, "run", "--pipeline", "data_preparation", "--params", "limit=12", PYTHONPATH=path)
    assert result.returncode == 0, result.stderr[-4000:]
    assert not (project / "data" / "mlflow").exists()


def test_without_mlflow_the_message_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match=r"mlflow is not installed: pip install 'mulcot-rd\[tracking\]'"):
        tracking._client(tmp_path / "mlflow")


def test_it_is_on_or_off(project):
    result = run(project, "--pipeline", "data_preparation", "--params", "tracking=local")
    assert "tracking=local: give true or false" in result.stderr
