"""Fingerprints: what an output was made from, so that finished work is kept and stale work is not."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mulcot_rd.files import write_json
from mulcot_rd.renamed import hashed_name


def fingerprint(*parts: Any) -> str:
    """A hash of parameters, records and plain values; equal parts give equal hashes on every machine.

    A parameter that was renamed is hashed under its earlier name.
    """
    canonical = json.dumps([_plain(part) for part in parts], sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def file_fingerprint(*paths: Path) -> str:
    """A hash of the bytes of files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:32]


def bytes_fingerprint(*contents: bytes) -> str:
    """A hash of the contents of files, in the order given; that of one is its :func:`file_fingerprint`."""
    return hashlib.sha256(b"".join(contents)).hexdigest()[:32]


def remembered_fingerprint(path: Path, memory: Path) -> str:
    """A hash of a large file's bytes, read once: ``memory`` keeps it under the file's name, size and time.

    The time is that of the last change of the file on this disk, which no copy or archive brings along. A memory that
    can't be read is begun anew, and one that can't be written is done without: it holds nothing that the files don't.
    """
    stat = path.stat()
    key = f"{path.name} {stat.st_size} {stat.st_ctime_ns}"
    try:
        known: dict[str, str] = json.loads(memory.read_text(encoding="utf-8")) if memory.is_file() else {}
    except ValueError:
        known = {}
    if key not in known:
        known[key] = file_fingerprint(path)
        with suppress(OSError):
            write_json(memory, known)
    return known[key]


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What two results were made from, where it differs: each as ``name: value before -> value now``."""
    old, new = flat(before), flat(now)
    names = [*new, *(name for name in old if name not in new)]
    return [f"{name}: {old.get(name)} -> {new.get(name)}" for name in names if old.get(name) != new.get(name)]


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings by their dotted names."""
    values: dict[str, Any] = {}
    for name, value in nested.items():
        values |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return values


def _plain(part: Any) -> Any:
    if isinstance(part, BaseModel):
        part = part.model_dump(mode="json")
    if isinstance(part, dict):
        return {hashed_name(str(key)): _plain(value) for key, value in part.items()}
    if isinstance(part, (list, tuple)):
        return [_plain(item) for item in part]
    return part
