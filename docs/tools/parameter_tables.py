"""The reference of every parameter, made from the pydantic classes by which nodes take them."""

from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mulcot_rd.config import ProjectConfigLoader
from mulcot_rd.planning.plan import parameter_groups

_HEAD = """# Parameters

Every parameter that a node reads, with its value for the sample (`conf/base`) and with `--env workstation`. Set it in a
`parameters.yml` of an environment, or by its name with `--params`, such as `--params ingest.max_rejected_share=0.1`.
What names a run (`arch`, `dataset`, `scale`, `variant`, `seed`, `run`, `limit`, `raw_dir`, `data_root`, `engine`,
`dry_run`) is set by these names alone ([architecture](../architecture.md#a-run-and-its-name)), and stands here under
`run_settings`.

`assistant` and `student` gather what a model is made and asked with. `generation.batch_size` sets a value for both,
`student.generation.batch_size` for one; `training` of each is set as `assistant_training` and `student_training`.

This page is made from the classes in the code.
"""


def page(conf: Path) -> str:
    """The page, in Markdown.

    Args:
        conf: The folder of the configuration.
    """
    sample, workstation = (
        ProjectConfigLoader(str(conf), env, base_env="base", default_run_env="base") for env in ("base", "workstation")
    )
    sections = [_HEAD]
    other = parameter_groups(workstation)
    for group, value in sorted(parameter_groups(sample).items()):
        if not isinstance(value, BaseModel):
            continue
        rows = [
            f"| `{name}` | {_cell(ours)} | {_cell(theirs)} | {_type(field)} | {_text(field.description or '')} |"
            for name, field, ours, theirs in _rows(type(value), value, other[group])
        ]
        sections.append(
            f"## {group}\n\n{_text((type(value).__doc__ or '').splitlines()[0])}\n\n"
            "| parameter | sample | workstation | type | what |\n|---|---|---|---|---|\n" + "\n".join(rows) + "\n"
        )
    return "\n".join(sections)


def _rows(cls: type[BaseModel], *values: Any, prefix: str = "") -> Iterator[tuple[Any, ...]]:
    """Name, field and values of every parameter of a class, those of classes within it behind its name.

    Where a group is absent, so are its values: an empty text stands for each.
    """
    for name, field in cls.model_fields.items():
        each = ["" if value in ("", None) else getattr(value, name) for value in values]
        within = next((type(one) for one in each if isinstance(one, BaseModel)), _class_in(field.annotation))
        if within is None:
            yield f"{prefix}{name}", field, *each
        else:
            yield from _rows(within, *each, prefix=f"{prefix}{name}.")


def _class_in(annotation: Any) -> type[BaseModel] | None:
    """The class of an optional group, such as ``TinySize | None``."""
    found = [
        one for one in get_args(annotation) or (annotation,) if isinstance(one, type) and issubclass(one, BaseModel)
    ]
    return found[0] if len(found) == 1 and get_origin(annotation) not in (list, dict) else None


def _type(field: FieldInfo) -> str:
    signs = {Ge: "≥ {0.ge}", Gt: "> {0.gt}", Le: "≤ {0.le}", Lt: "< {0.lt}"}
    limits = [sign.format(one) for one in field.metadata for kind, sign in signs.items() if isinstance(one, kind)]
    return ", ".join([_name(field.annotation), *limits])


def _name(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{one}`" for one in inner)
    if origin is Annotated:
        return _name(inner[0])
    if origin in (Union, UnionType):
        return " or ".join(_name(one) for one in inner)
    if origin is not None:
        return f"{origin.__name__} of {', '.join(_name(one) for one in inner)}"
    return "null" if annotation is NoneType else getattr(annotation, "__name__", str(annotation))


def _cell(value: Any) -> str:
    shown = {None: "null", True: "true", False: "false"}.get(value) if isinstance(value, bool | None) else str(value)
    return f"`{_text(str(shown))}`" if shown != "" else ""


def _text(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
