"""What the project's commands share: errors in one sentence, options that name a run, and the run's context."""

import functools
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import click
from kedro.framework.cli.project import PARAMS_ARG_HELP
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.utils import find_kedro_project
from omegaconf import OmegaConf

from mulcot_rd.messages import is_users, one_sentence
from mulcot_rd.yaml_reader import typed_value

logger = logging.getLogger(__name__)


def in_one_sentence(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command end with one sentence where a user can act on its error."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except Exception as error:
            if not is_users(error):
                raise
            logger.debug("the error in full", exc_info=error)
            raise click.ClickException(one_sentence(error)) from error

    return run


def split_params(context: click.Context, option: click.Parameter, value: str | dict[str, Any] | None) -> dict[str, Any]:
    """What ``--params`` gives: ``name=value``, separated by commas that are in no brackets; text stays as typed."""
    if value is None or isinstance(value, dict):
        return value or {}
    if not isinstance(value, str):
        raise click.BadParameter(f"{value!r} must be a mapping, or text such as NAME=VALUE", context, option)
    given = OmegaConf.create()
    for item in re.split(r",(?![^\[\]]*\])", value):
        name, equals, typed = item.partition("=")
        if not equals and not item.strip():
            continue
        if not equals or not name.strip():
            raise click.BadParameter(f"{item.strip()!r} must be NAME=VALUE", context, option)
        OmegaConf.update(given, name.strip(), typed_value(name.strip(), typed))
    return cast(dict[str, Any], OmegaConf.to_container(given))


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that name a run, as `kedro run` has them."""
    command = click.option("--env", "-e", default=None, help="Kedro configuration environment.")(command)
    return click.option("--params", default="", help=PARAMS_ARG_HELP, callback=split_params)(command)


def project_folder() -> Path:
    """The project's folder, from any folder of it."""
    return Path(find_kedro_project(Path.cwd()) or Path.cwd())


def run_context(params: dict[str, Any], env: str | None) -> tuple[Any, Path]:
    """The context of a run, whose catalog and loader Kedro types as any, and the folder of its ratings."""
    project = project_folder()
    # Relative paths of parameters are those of the project.
    os.chdir(project)
    # Kedro checks parameters by the nodes that read them: this stage reads those that name a run, and needs no torch.
    pipelines.set_requested(["data_preparation"])
    with KedroSession.create(project_path=project, env=env, runtime_params=params) as session:
        context = cast(KedroSession, session).load_context()
    run = context.params["run_settings"]
    return context, project / run.data_root / "08_reporting" / run.dataset / run.name / "ratings"
