"""The project's command line: Kedro's own, with errors that a user can act on said in one sentence."""

import copy
import functools
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from kedro.framework.cli.project import project_group
from kedro.framework.cli.project import run as kedro_run

from mulcot_rd.messages import one_sentence, user_errors

logger = logging.getLogger(__name__)

# The project's commands name --pipeline, the older spelling that every release of Kedro 1 knows.
warnings.filterwarnings("ignore", message=".*'--pipeline' is deprecated.*")


def _in_one_sentence(command: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except user_errors() as error:
            logger.debug("the error in full", exc_info=error)
            raise click.ClickException(one_sentence(error)) from error

    return run


run = copy.copy(kedro_run)
run.callback = _in_one_sentence(kedro_run.callback)


@click.group(cls=type(project_group), name="mulcot_rd")
def cli() -> None:
    """Commands of the project."""


@cli.command()
@click.argument("plan", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Do every run, also what is complete and up to date.")
def experiments(plan: Path, force: bool) -> None:
    """Do the runs of PLAN, a YAML file such as .kedro/experiments/sample.yml, then make all reports.

    Runs that are complete and up to date are skipped, failed ones are reported while the rest goes on. A plan that
    was interrupted goes on where it stopped.
    """
    from mulcot_rd.experiments import PlanError, as_table, execute, read_plan

    try:
        runs = read_plan(plan)
    except PlanError as error:
        raise click.ClickException(str(error)) from error
    reports = execute(runs, Path.cwd(), force=force)
    click.echo(as_table(reports))
    failed = sum(report.state == "failed" for report in reports)
    if failed:
        raise click.ClickException(f"{failed} of {len(reports)} failed; the same command does what is left")


cli.add_command(run)
