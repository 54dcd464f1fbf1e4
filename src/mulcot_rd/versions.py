"""Versions on a local disk: Kedro keeps them as ``PATH/<version>/<file name>``."""

import os
import shutil
from pathlib import Path

# Beside each version: what it was made from.
RECORD = "made_from.json"


def newest(path: Path) -> Path:
    """What a path of the catalog stands for: its newest version, or itself where it has none.

    The folder of one version (``student/<version>``) stands for what it holds (``student/<version>/student``).
    """
    # The paths "." and ".." don't say how their folder is called.
    whole = path.resolve() if path.name in ("", "..") else path
    of_a_version = path / whole.parent.name
    return max(path.glob(f"*/{whole.name}"), default=of_a_version if of_a_version.exists() else path)


def link_folder(source: Path, target: Path) -> None:
    """Let ``target`` be a folder of the same files, in one step: linked where the file system can, else copied."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial, copy_function=_link)
    partial.rename(target)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Another disk, or a file system without links; what else is wrong, copying meets too.
        shutil.copy2(source, target)
