"""The families the project knows: those of the modules in :mod:`mulcot_rd.models.families`."""

import pkgutil
from importlib import import_module

from mulcot_rd.errors import UserError
from mulcot_rd.models import families
from mulcot_rd.models.family import Family


def _find() -> dict[str, Family]:
    names = sorted(module.name for module in pkgutil.iter_modules(families.__path__, f"{families.__name__}."))
    found = [getattr(import_module(name), "FAMILY", None) for name in names]
    return {family.name: family for family in found if family is not None}


FAMILIES: dict[str, Family] = _find()


def family_named(name: str) -> Family:
    """The family of that name.

    Raises:
        UserError: If there is none; the message lists those there are.
    """
    if name not in FAMILIES:
        raise UserError(f'no model family is named "{name}"; there are: {", ".join(sorted(FAMILIES))}')
    return FAMILIES[name]
