"""Packages that an extra of this project brings."""

from collections.abc import Iterator
from contextlib import contextmanager

from mulcot_rd.errors import UserError


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import optional packages inside; where one is not installed, the error names the command that installs it.

    Args:
        name: The extra in ``pyproject.toml`` that brings them.

    Raises:
        UserError: If one of them is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: pip install 'mulcot-rd[{name}]'") from error
