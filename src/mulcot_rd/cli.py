"""The project's command line: Kedro's own, with errors that a user can act on said in one sentence."""

import copy
import functools
import logging
import warnings
from collections.abc import Callable
from typing import Any

import click
from kedro.framework.cli.project import project_group
from kedro.framework.cli.project import run as kedro_run
from kedro.io import DatasetError
from kedro.validation.exceptions import ParameterValidationError
from omegaconf.errors import OmegaConfBaseException

logger = logging.getLogger(__name__)

# Warnings of libraries about themselves, which a user of this project can do nothing about.
warnings.filterwarnings("ignore", message=".*register_new_resolver.*")
warnings.filterwarnings("ignore", message=".*'--pipeline' is deprecated.*")


def _user_errors() -> tuple[type[Exception], ...]:
    """Errors whose message names what is wrong and the cure; imported late, `kedro --help` needs no torch."""
    from mulcot_rd.hooks import MissingInputError, UnknownParameterError
    from mulcot_rd.images import ImageError
    from mulcot_rd.ingest import IngestError
    from mulcot_rd.models import WeightsError
    from mulcot_rd.teacher import TeacherError
    from mulcot_rd.training.soft_labels import SoftLabelError

    return (
        UnknownParameterError,
        MissingInputError,
        IngestError,
        TeacherError,
        WeightsError,
        SoftLabelError,
        ImageError,
        ParameterValidationError,
        DatasetError,
        OmegaConfBaseException,
    )


def _in_one_sentence(command: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except _user_errors() as error:
            logger.debug("the error in full", exc_info=error)
            raise click.ClickException(" ".join(str(error).split())) from error

    return run


run = copy.copy(kedro_run)
run.callback = _in_one_sentence(kedro_run.callback)


@click.group(cls=type(project_group), name="mulcot_rd")
def cli() -> None:
    """Commands of the project."""


cli.add_command(run)
