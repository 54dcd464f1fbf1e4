"""Errors that a user can act on, said in one sentence."""

import difflib
import errno
import os
import re
from collections.abc import Iterable

from kedro.framework.cli.utils import KedroCliError
from kedro.io import DatasetError
from kedro.validation.exceptions import ParameterValidationError
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError

from mulcot_rd.credentials import without_password
from mulcot_rd.errors import UserError

# Errors whose message names what is wrong and the cure.
USER_ERRORS = (UserError, ParameterValidationError, KedroCliError, DatasetError, OmegaConfBaseException)

_FAULT = re.compile(r"^(?:(\S+)\n)?  (?:Value error, )?(.+) \[type=\w+, input_value=(.*), input_type=", re.MULTILINE)
# What storage refuses, and the cure.
_STORAGE = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the quota of disk space is used up: free some space",
    errno.EFBIG: "the file is larger than is allowed here: raise the limit (ulimit -f)",
    errno.EXDEV: "these two places lie on different disks: put the folders of one run on one disk",
    errno.EROFS: "the file system is read-only: make it writable, or copy the project elsewhere",
    errno.EACCES: "permission denied: make it readable and writable for you",
    errno.EPERM: "permission denied: make it readable and writable for you",
}


def nearest(name: object, known: Iterable[str]) -> str:
    """What to write in place of an unknown name: the known ones that are like it, or all of them."""
    there = sorted(str(one) for one in known)
    # The last word alone, too: nodes are named after their stage.
    like = difflib.get_close_matches(str(name), there, n=3) or [one for one in there if one.endswith(f".{name}")]
    if like:
        return "did you mean {}?".format(" or ".join(f'"{one}"' for one in like))
    return f"there are: {', '.join(there)}" if there else "it stands in no group"


def is_users(error: BaseException) -> bool:
    """Whether a user can act on an error: its message says so, or storage failed under it."""
    return isinstance(_told(error), USER_ERRORS) or _storage_fault(error) is not None


def one_sentence(error: BaseException) -> str:
    """An error's message on one line; of refused parameters only their names, what is wrong, and what was given."""
    error = _told(error)
    text = _storage_fault(error) or str(error)
    if isinstance(error, ParameterValidationError):
        refused = []
        for part in re.split(r"^- (?=Parameter ')", text, flags=re.MULTILINE)[1:]:
            group = re.match(r"Parameter '([^']+)'", part)
            for name, what, value in _FAULT.findall(part):
                where = ".".join(piece for piece in (group[1] if group else "", name) if piece)
                refused.append(f"{where}: {what}" + (f" (given: {value})" if name else ""))
        if refused:
            text = "parameters refused: " + "; ".join(refused)
    return without_password(" ".join(text.split()))


def _told(error: BaseException) -> BaseException:
    """The error without Kedro's own words before what a dataset, or the import of a pipeline, raised."""
    while isinstance(error, DatasetError | ImportError) and isinstance(error.__cause__, USER_ERRORS):
        error = error.__cause__
    return error


def _storage_fault(error: BaseException | None) -> str | None:
    """What storage refused, wherever in the chain of an error that stands."""
    while error is not None:
        if isinstance(error, OSError | SafetensorError):
            told = re.search(r"\b(?:code:|[Ee]rrno|os error) (\d+)", str(error))
            number = int(told[1]) if told else None
            if number in _STORAGE:
                place = f"{os.fsdecode(error.filename)}: " if isinstance(error, OSError) and error.filename else ""
                return f"{place}{_STORAGE[number]}, then give the same command again, it goes on where it stopped"
        error = error.__cause__ or error.__context__
    return None
