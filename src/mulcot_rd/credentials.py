"""Credentials that don't show themselves."""

from typing import Any


class Credentials(dict[str, Any]):
    """A dictionary that prints nothing of what it holds: Kedro's debug log shows every argument of every hook."""

    def __repr__(self) -> str:
        return "(not shown)"
