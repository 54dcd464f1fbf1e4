"""Writing files so that a reader never sees half of one."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    write(temporary)
    temporary.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step, in UTF-8."""
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8") and None)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file in one step."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def empty_folder(path: Path) -> Path:
    """The folder, made if it is not there, with nothing in it."""
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True)
    return path
