"""Reading text files, and writing files so that a reader never sees half of one and two writers never mix theirs."""

import codecs
import fcntl
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from mulcot_rd.errors import UserError

# A path that a user gives, with ~ for the home folder.
UserPath = Annotated[str, AfterValidator(os.path.expanduser)]

# How files begin that are no text yet, and what they are.
_NO_TEXT = {b"\x1f\x8b": "compressed with gzip", b"PK\x03\x04": "a zip archive or an Excel workbook"}


def read_bytes(path: Path, error: type[Exception]) -> bytes:
    r"""The bytes of a text file that should be UTF-8: no byte order mark, lines that end with ``\n`` or ``\r\n``.

    UTF-16 with a byte order mark is converted, as are lone carriage returns where they alone end the lines. Whether
    the bytes are valid UTF-8 is for the caller to find out, line by line or with :func:`read_text`.

    Args:
        path: The file.
        error: What to raise.

    Raises:
        error: If the file can't be opened or is no text; the message names the file and the cure.
    """
    try:
        raw = path.read_bytes()
    except OSError as problem:
        raise error(f"{path} can't be opened ({problem.strerror}): check the path and its permissions") from problem
    for beginning, what in _NO_TEXT.items():
        if raw.startswith(beginning):
            raise error(f"{path} is {what}: unpack it, or save it as a text file in UTF-8")
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            raw = raw.decode("utf-16").encode()
        except UnicodeError as problem:
            raise error(f"{path} is broken UTF-16: save it as a text file in UTF-8") from problem
    raw = raw.removeprefix(codecs.BOM_UTF8)
    if b"\n" not in raw:
        raw = raw.replace(b"\r", b"\n")
    if b"\0" in raw.partition(b"\n")[0]:
        raise error(f"{path}: line 1 holds NUL bytes, as other encodings than UTF-8 have: save the file as UTF-8")
    return raw


def read_text(path: Path, error: type[Exception]) -> str:
    """The text of a file, as :func:`read_bytes` takes it.

    Args:
        path: The file.
        error: What to raise.

    Raises:
        error: If the file can't be opened or is not UTF-8; the message names the file, the line and the cure.
    """
    raw = read_bytes(path, error)
    try:
        return raw.decode()
    except UnicodeDecodeError as problem:
        line = raw.count(b"\n", 0, problem.start) + 1
        raise error(
            f"{path}: line {line} is not UTF-8 (byte 0x{raw[problem.start]:02x}): save it as UTF-8"
        ) from problem


def local_path(path: str, what: str, cure: str = "correct data_root") -> Path:
    """The path of a folder or file that must lie on a file system that every process of a run sees.

    Args:
        path: As the catalog names it.
        what: What lies there, for the message.
        cure: What to do about a URL, for the message.

    Raises:
        UserError: If it is a URL of another file system.
    """
    if "://" in path:
        raise UserError(f"{path}: {what} must be in a folder that all processes share, not at a URL: {cure}")
    return Path(path).expanduser()


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place in one step.

    The temporary file belongs to this process and thread alone, and goes if ``write`` fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process or thread holds the lock of this file, and hold it: for read, change, write.

    The system gives the lock back when the process ends, however it ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step, in UTF-8."""
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file in one step."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def empty_folder(path: Path) -> Path:
    """The folder, made if it is not there, with nothing in it."""
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True)
    return path
