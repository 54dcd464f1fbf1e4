"""A plan carried out by the command: finished runs are skipped, stale ones done again, failed ones reported."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from io import BytesIO
from types import SimpleNamespace

import psutil
import pytest
from kedro.framework.project import configure_project

from mulcot_rd.experiments import as_table, execute, read_plan
from mulcot_rd.experiments.execute import _run_kedro
from tests.commands import command, environment
from tests.commands import kedro as kedro_in
from tests.project.conftest import current, kedro, project  # noqa: F401 - fixtures

pytestmark = pytest.mark.slow

PLAN = """
parameters: {dataset: sample, limit: 3}
runs:
  - parameters: {run: [first, second]}
    stages: [data_preparation]
  - parameters: {run: third, ingest.max_rejected_share: 0.05}
    stages: [data_preparation, teacher_annotation]
"""
BROKEN = """
  - parameters: {run: broken, ingest.folder: nowhere}
    stages: [data_preparation]
  - parameters: {run: refused, limit: 0}
  - parameters: {run: former, student_training.optimisation.accumulation: 2}
"""
LAST = """
  - parameters: {run: last}
    stages: [data_preparation]
"""


@pytest.fixture
def carry_out(project, monkeypatch):  # noqa: F811
    """Carries a plan out, its runs in forked processes, and gives the rows of its table by run."""
    configure_project("mulcot_rd")

    def forked(command, cwd, **_):
        done = kedro_in(cwd, *command[3:])
        return nullcontext(SimpleNamespace(stdout=BytesIO(done.stderr.encode()), returncode=done.returncode))

    def carry_out(plan):
        (project / "plan.yml").write_text(plan)
        table = as_table(execute(read_plan(project / "plan.yml"), project))
        return {line[:30].split("  ")[0]: line for line in table.splitlines()[1:]}

    pipes = {"PIPE": subprocess.PIPE, "STDOUT": subprocess.STDOUT}
    monkeypatch.setitem(_run_kedro.__globals__, "subprocess", SimpleNamespace(Popen=forked, **pipes))
    return carry_out


def test_the_command_goes_on_behind_a_failure(project, kedro):  # noqa: F811
    (project / "plan.yml").write_text("parameters: {dataset: sample, limit: 3}\nruns:" + BROKEN + LAST)
    result = kedro("experiments", "plan.yml")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "3 of 4 failed; the same command does what is left" in result.stderr
    rows = {line[:30].split("  ")[0]: line for line in result.stdout.splitlines()[1:]}
    assert "nowhere" in rows["broken"] and " failed " in rows["broken"]
    assert any("limit" in line and " failed " in line for line in rows.values())
    assert any("write student_training.optimisation.gradient_accumulation_steps" in line for line in rows.values())
    assert " done " in rows["last"]


def test_plan_skips_what_is_up_to_date(project, kedro, carry_out):  # noqa: F811
    rows = carry_out(PLAN)
    assert all(" done " in rows[name] for name in ("first", "second", "third"))
    assert json.loads((project / "data/08_reporting/sample/first/experiment.json").read_text())["run"] == "first"

    # Another value of a parameter that a run reads makes that run stale; so does a missing output. No other run is.
    (project / "data/08_reporting/sample/second/experiment.json").unlink()
    rows = carry_out(PLAN.replace("0.05", "0.04"))
    assert " up to date " in rows["first"]
    assert " done " in rows["second"]
    assert " done " in rows["third"]

    # So does a run of its name by hand.
    assert kedro("run", "--pipelines", "teacher_annotation", "--params", "run=third,limit=2").returncode == 0
    rows = carry_out(PLAN.replace("0.05", "0.04"))
    assert [" up to date " in rows[name] for name in ("first", "second", "third")] == [True, True, False]
    rows = carry_out(PLAN.replace("0.05", "0.04"))
    assert all(" up to date " in rows[name] for name in ("first", "second", "third"))

    current(project / "data/05_model_input/sample/third/teacher_reasoning.jsonl").unlink()
    rows = carry_out(PLAN.replace("0.05", "0.04"))
    assert [" up to date " in rows[name] for name in ("first", "second", "third")] == [True, True, False]
    assert current(project / "data/05_model_input/sample/third/teacher_reasoning.jsonl").is_file()


def test_two_runs_of_one_name_are_refused_before_any_is_begun(project, kedro):  # noqa: F811
    (project / "plan.yml").write_text("runs:\n  - parameters: {limit: [3, 4]}\n    stages: [data_preparation]\n")
    result = kedro("experiments", "plan.yml")
    assert result.returncode == 1
    assert "the runs limit=3 and limit=4 are both arch4-tiny-full on sample" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (project / "data" / "03_primary").exists()


def test_every_run_has_its_own_reports_whatever_posts_others_left(project, carry_out):  # noqa: F811
    """Runs of a data set share its posts file; each loads its own limit of it, and its reports are of those."""
    plan = (
        "runs:\n  - parameters: {run: many, limit: 12}\n    stages: &stages [data_preparation, reporting]\n"
        "  - parameters: {run: few, limit: 6}\n    stages: *stages\n"
    )
    reports = project / "data" / "08_reporting" / "sample"

    def carried_out(plan):
        rows = carry_out(plan)
        posts = {
            run: json.loads((reports / run / "baselines.json").read_text())["majority"]["posts"]
            for run in ("many", "few")
        }
        assert posts == {"many": 12, "few": 6}
        return [" done " in rows[run] for run in ("many", "few")]

    assert carried_out(plan) == [True, True]
    for run in ("many", "few"):
        for name in ("result_table.md", "quality_table.md", "case_study.html", "report.html", "training_curves.png"):
            assert (reports / run / name).is_file()
    # What only the reports read makes these alone again.
    assert carried_out(plan.replace("limit: 6", "limit: 6, reporting.cases: 1")) == [False, True]
    assert "Running node: read_raw" not in (reports / "few" / "experiment.log").read_text()


def test_an_ended_plan_leaves_no_run_behind(project):  # noqa: F811
    (project / "plan.yml").write_text("runs:\n  - parameters: {limit: 100}\n")
    plan = subprocess.Popen(
        command("experiments", "plan.yml"), cwd=project, env=environment(), stderr=subprocess.PIPE, text=True
    )
    running: list[psutil.Process] = []
    deadline = time.monotonic() + 120
    while not running and time.monotonic() < deadline:
        running = psutil.Process(plan.pid).children(recursive=True)
        time.sleep(0.1)
    assert running
    plan.terminate()
    assert plan.wait(timeout=60) != 0
    plan.stderr.close()
    assert not psutil.wait_procs(running, timeout=30)[1]


def test_an_interrupted_run_ends_by_itself(tmp_path, monkeypatch):
    """Answers of a teacher that are on their way are paid for."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho started\nsleep 1\ntouch ended\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            _run_kedro(SimpleNamespace(params_option="", env=None), ["reporting"], tmp_path, tmp_path / "log")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "ended").exists()
    assert (tmp_path / "log").read_text() == "started\n"


def test_a_dry_run_is_no_experiment(project, kedro):  # noqa: F811
    (project / "plan.yml").write_text("runs:\n  - parameters: {dry_run: true}\n")
    result = kedro("experiments", "plan.yml")
    assert result.returncode == 1
    assert "dry_run=true runs nothing: take it out of the plan" in result.stdout
    assert not (project / "data" / "08_reporting").exists()
