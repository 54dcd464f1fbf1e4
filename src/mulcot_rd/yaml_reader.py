"""Reading YAML: values stay what their author typed, and a mistake is named with its file and line."""

import re
from typing import Any, ClassVar

import yaml

from mulcot_rd.errors import UserError

# Parameters that are text whatever they look like: 0012, 1e5 and true are names of folders.
TEXTS = frozenset({"dataset", "run", "variant", "raw_dir"})
# Parameters that are text where they look like a number: 2015 is a folder, 1e10 a revision. null says there is none.
_NO_NUMBERS = frozenset(
    {"folder", "split_files", "model", "revision", "import_path", "base_url", "tokenizer", "compare_with"}
)
_INTEGER = r"[-+]?(?:0|[1-9][0-9]*)"


class _Loader(yaml.SafeLoader):
    """The scalars of YAML 1.2 alone: ``0012``, ``1_000``, ``2026-01-01``, ``12:30`` and ``no`` are text."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.composer.ComposerError(None, None, "a key occurs twice", key.start_mark)
                seen.add(key.value)
                # A name is text: architecture 8 is found by what stands on the command line.
                key.tag = "tag:yaml.org,2002:str"
            for one in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                number = one.tag.rpartition(":")[2] in ("int", "float") and _takes_no_number(key.value)
                if isinstance(one, yaml.ScalarNode) and (key.value in TEXTS or number):
                    one.tag = "tag:yaml.org,2002:str"
        return node


for _kind, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", rf"^{_INTEGER}$", list("-+0123456789")),
    (
        "float",
        rf"^(?:{_INTEGER}(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|[-+]?\.[0-9]+(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|nan))$",
        list("-+0123456789."),
    ),
    ("merge", r"^<<$", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(_pattern), _first)


def read_yaml(content: str | bytes, place: str, *, secret: bool = False) -> Any:
    """What a YAML document says.

    Args:
        content: The document.
        place: The file's name, for messages.
        secret: Whether a message must not hold anything of the document.

    Raises:
        UserError: If it is no YAML; the message names file and line.
    """
    try:
        return yaml.load(content, _Loader)
    except yaml.reader.ReaderError as error:
        newline: Any = b"\n" if isinstance(content, bytes) else "\n"
        line = content.count(newline, 0, error.position) + 1
        message = f"{place}, line {line}: this is no text in UTF-8; save it as a text file in UTF-8"
    except yaml.YAMLError as error:
        marked = isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None
        at = f", line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}" if marked else ""
        what = "" if secret else f" ({error.problem if marked else ' '.join(str(error).split())})"
        message = f"{place}{at}: this is no YAML{what}; correct it there, and indent with blanks, never with tabs"
    # Behind the handler, so that a traceback does not show the parser's error, which quotes the file.
    raise UserError(message)


def read_mapping(content: str | bytes, place: str, *, secret: bool = False) -> dict[str, Any]:
    """A YAML document that is a mapping; an empty one is an empty mapping.

    Raises:
        UserError: If it is no YAML or no mapping.
    """
    found = read_yaml(content, place, secret=secret)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UserError(f"{place}: it must be a mapping, lines such as `name: value`")
    return found


def typed_value(name: str, typed: str) -> Any:
    """A value of the command line, as YAML reads it; text that is not quoted stays exactly as it was typed."""
    if name in TEXTS:
        return typed
    try:
        value = yaml.load(typed, _Loader)
    except yaml.YAMLError:
        return typed
    if isinstance(value, float | int) and not isinstance(value, bool) and _takes_no_number(name):
        return typed
    opened: dict[type, Any] = {str: ("'", '"'), list: "[", dict: "{"}
    return value if typed.lstrip().startswith(opened.get(type(value), "")) else typed


def _takes_no_number(name: str) -> bool:
    """Whether a parameter, by its name or its dotted path, is text where it looks like a number."""
    return name.rpartition(".")[2] in _NO_NUMBERS
