"""Errors that a user can act on, said in one sentence."""

import re

from kedro.io import DatasetError
from kedro.validation.exceptions import ParameterValidationError
from omegaconf.errors import OmegaConfBaseException

_FAULT = re.compile(r"^(?:(\S+)\n)?  (?:Value error, )?(.+) \[type=\w+, input_value=(.*), input_type=", re.MULTILINE)


def user_errors() -> tuple[type[Exception], ...]:
    """Errors whose message names what is wrong and the cure; imported late, `kedro --help` needs no torch."""
    from mulcot_rd.errors import UserError
    from mulcot_rd.hooks import MissingInputError, UnknownParameterError
    from mulcot_rd.images import ImageError
    from mulcot_rd.ingest import IngestError
    from mulcot_rd.models import WeightsError
    from mulcot_rd.teacher import TeacherError
    from mulcot_rd.training.soft_labels import SoftLabelError

    return (
        UserError,
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


def one_sentence(error: Exception) -> str:
    """An error's message on one line; of refused parameters only their names, what is wrong, and what was given."""
    text = str(error)
    if isinstance(error, ParameterValidationError):
        refused = []
        for part in re.split(r"^- (?=Parameter ')", text, flags=re.MULTILINE)[1:]:
            group = re.match(r"Parameter '([^']+)'", part)
            for name, what, value in _FAULT.findall(part):
                where = ".".join(piece for piece in (group[1] if group else "", name) if piece)
                refused.append(f"{where}: {what}" + (f" (given: {value})" if name else ""))
        if refused:
            text = "parameters refused: " + "; ".join(refused)
    return " ".join(text.split())
