"""Carrying a plan out: one process a run, finished runs skipped, failed ones reported, the rest going on."""

import logging
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from mulcot_rd.experiments.plan import PlanError, PlannedRun
from mulcot_rd.experiments.state import RunState
from mulcot_rd.messages import USER_ERRORS, one_sentence

logger = logging.getLogger(__name__)

State = Literal["done", "up to date", "failed"]


@dataclass(frozen=True)
class RunReport:
    """What became of one run.

    Attributes:
        name: The run's name, or its parameters where they were refused.
        dataset: The data set's name, empty where the parameters were refused.
        state: Done now, found complete and up to date, or failed.
        seconds: How long it took now.
        reason: Why it failed, in one line.
        log: What the run printed, where it ran.
    """

    name: str
    dataset: str
    state: State
    seconds: float
    reason: str = ""
    log: Path | None = None


def execute(runs: Sequence[PlannedRun], project: Path, *, force: bool = False) -> list[RunReport]:
    """Carry out a plan's runs in order, then make all reports.

    Args:
        runs: The runs.
        project: The project's folder.
        force: Do every run, also what is up to date. Stages still keep finished work of theirs.

    Returns:
        A report for each run, in order; a failure does not keep the later ones from running.

    Raises:
        PlanError: If two runs would write into the same folders; then none is begun.
    """
    states = [_resolved(planned, project) for planned in runs]
    _refuse_shared_folders(runs, states)
    reports = []
    for number, (planned, state) in enumerate(zip(runs, states, strict=True), start=1):
        if isinstance(state, RunReport):
            report = state
        else:
            report = _carry_out(planned, state, project, f"run {number} of {len(runs)}", force=force)
        reports.append(report)
        if report.state == "failed":
            logger.error("%s: failed after %.0f s: %s", report.name, report.seconds, report.reason)
        else:
            logger.info("%s: %s (%.0f s)", report.name, report.state, report.seconds)
    for planned, state, report in zip(runs, states, reports, strict=True):
        if isinstance(state, RunState) and report.state != "failed" and "reporting" in planned.stages:
            reports.append(_make_reports(planned, state, project))
            break
    return reports


def _resolved(planned: PlannedRun, project: Path) -> RunState | RunReport:
    """What the configuration makes of a run, or the report that its parameters are refused."""
    try:
        return RunState(planned, project)
    except USER_ERRORS as error:
        return RunReport(planned.shown, "", "failed", 0.0, one_sentence(error))


def _refuse_shared_folders(runs: Sequence[PlannedRun], states: Sequence[RunState | RunReport]) -> None:
    """Runs of one name that differ in more than their stages would overwrite each other, each time anew."""
    taken: dict[tuple[str, str], PlannedRun] = {}
    for planned, state in zip(runs, states, strict=True):
        if isinstance(state, RunReport):
            continue
        other = taken.setdefault((state.dataset, state.name), planned)
        if other.parameters != planned.parameters:
            raise PlanError(
                f"the runs {other.shown} and {planned.shown} are both {state.name} on {state.dataset} "
                "and would write into the same folders: give one a name of its own with the parameter run"
            )


def _carry_out(planned: PlannedRun, state: RunState, project: Path, which: str, *, force: bool) -> RunReport:
    finished = not force and state.up_to_date()
    if finished and state.reports_up_to_date():
        return RunReport(state.name, state.dataset, "up to date", 0.0)
    stages, outputs = (["reporting"], state.own_reports) if finished else (planned.stages, state.outputs)
    logger.info("%s: %s, %s", which, state.name, planned.shown)
    started = time.monotonic()
    log = state.record.with_name("experiment.log")
    # A record of the earlier run must not outlive a failure of this one.
    if not finished:
        state.record.unlink(missing_ok=True)
    reason = _run_kedro(planned, stages, project, log, outputs=outputs)
    seconds = time.monotonic() - started
    if reason is not None:
        return RunReport(state.name, state.dataset, "failed", seconds, reason, log)
    state.finish(None if finished else seconds)
    return RunReport(state.name, state.dataset, "done", seconds, log=log)


def _make_reports(planned: PlannedRun, state: RunState, project: Path) -> RunReport:
    """The pipeline reporting, once, from a run that is complete; its tables are of all runs on disk."""
    started = time.monotonic()
    log = state.reports / "experiments_reporting.log"
    reason = _run_kedro(planned, ["reporting"], project, log)
    ended: State = "done" if reason is None else "failed"
    return RunReport("reporting", "", ended, time.monotonic() - started, reason or "", log)


def _run_kedro(
    planned: PlannedRun, stages: Sequence[str], project: Path, log: Path, *, outputs: Iterable[str] = ()
) -> str | None:
    """Run pipelines in a process of their own; the last line of its complaint if it failed, else ``None``."""
    command = [sys.executable, "-m", "kedro", "run", "--pipelines", ",".join(stages)]
    if outputs:
        command += ["--to-outputs", ",".join(sorted(outputs))]
    if planned.params_option:
        command += ["--params", planned.params_option]
    if planned.env is not None:
        command += ["--env", planned.env]
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("wb") as kept,
        subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process,
    ):
        assert process.stdout is not None
        try:
            _copy(process.stdout, kept)
        except BaseException as error:
            try:
                # Ctrl-C reaches the run, too: it ends by itself, with all that is paid for. A second one ends it now.
                if isinstance(error, KeyboardInterrupt):
                    _copy(process.stdout, kept)
            finally:
                process.terminate()
            raise
    if process.returncode == 0:
        return None
    lines = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else f"exit code {process.returncode}"


def _copy(source: IO[bytes], kept: IO[bytes]) -> None:
    """Show what a run prints while keeping it."""
    while block := source.read1(1 << 16):  # type: ignore[attr-defined]
        sys.stderr.buffer.write(block)
        sys.stderr.buffer.flush()
        kept.write(block)


def as_table(reports: Sequence[RunReport]) -> str:
    """The reports as lines of text, for the end of the command."""
    width = max(len(report.name) for report in reports)
    lines = [f"{'run':<{width}}  {'state':<10}  {'seconds':>8}  reason"]
    lines += [f"{r.name:<{width}}  {r.state:<10}  {r.seconds:>8.0f}  {r.reason}".rstrip() for r in reports]
    return "\n".join(lines)
