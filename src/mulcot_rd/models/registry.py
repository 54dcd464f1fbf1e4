"""The families the project knows. A new one is a module of its own and a line here."""

from mulcot_rd.errors import UserError
from mulcot_rd.models import flan_t5, qwen2_5_vl, qwen3_vl, smolvlm
from mulcot_rd.models.family import Family

FAMILIES: dict[str, Family] = {module.FAMILY.name: module.FAMILY for module in (flan_t5, qwen2_5_vl, qwen3_vl, smolvlm)}


def family_named(name: str) -> Family:
    """The family of that name.

    Raises:
        UserError: If there is none; the message lists those there are.
    """
    if name not in FAMILIES:
        raise UserError(f'no model family is named "{name}"; there are: {", ".join(sorted(FAMILIES))}')
    return FAMILIES[name]
