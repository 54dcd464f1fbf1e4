"""Append-only JSONL files that a kill may tear, but never corrupt."""

import asyncio
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

logger = logging.getLogger(__name__)

RowT = TypeVar("RowT", bound=BaseModel)


class AppendOnlyFile:
    """A file of rows; rows that wait together share one sync, which runs beside the event loop.

    A line that a kill tore stays as it is; the next one starts on a new line.
    """

    def __init__(self, path: Path) -> None:
        """Name the file; it and its folder are made by the first row."""
        self.path = path
        self._pending: list[bytes] = []
        self._lock = asyncio.Lock()

    def add(self, row: BaseModel) -> None:
        """Queue a row for the next :meth:`flush`."""
        self._pending.append(row.model_dump_json().encode() + b"\n")

    async def flush(self) -> None:
        """Return once all rows added so far are on disk; they get there even where the caller gives up on waiting.

        Raises:
            OSError: If the file can't be written.
        """
        await asyncio.shield(self._flush())

    async def _flush(self) -> None:
        async with self._lock:
            lines, self._pending = self._pending, []
            if not lines:
                return
            try:
                await asyncio.to_thread(self._write, b"".join(lines))
            except OSError:
                # Whoever waits for one of these lines tries again, and learns of the error as well.
                self._pending = lines + self._pending
                raise

    def _write(self, lines: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    lines = b"\n" + lines
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())


def read_rows(path: Path, kind: type[RowT]) -> Iterator[RowT]:
    """The rows of a file, without those that are torn or unreadable; a warning counts these."""
    if not path.exists():
        return
    unreadable = 0
    with path.open("rb") as file:
        for line in filter(bytes.strip, file):
            try:
                yield kind.model_validate_json(line)
            except ValidationError:
                unreadable += 1
    if unreadable:
        logger.warning("%s: %d torn or unreadable line(s) skipped, as if they had not been written", path, unreadable)
