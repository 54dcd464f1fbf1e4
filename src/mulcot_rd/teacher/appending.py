"""Append-only JSONL files that several writers may share and a kill may tear, but never corrupt."""

import asyncio
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

logger = logging.getLogger(__name__)

RowT = TypeVar("RowT", bound=BaseModel)


class AppendOnlyFile:
    """A file of lines; what was appended is on disk once its future is done.

    Lines that wait together share one sync, which runs beside the event loop. A line that a kill tore stays as it is;
    the next one starts on a new line.
    """

    def __init__(self, path: Path) -> None:
        """Name the file; it and its folder are made by the first line."""
        self.path = path
        self._pending: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    def append(self, line: bytes) -> asyncio.Future[None]:
        """Queue a line, without its line break, to be written in the order of calls.

        Returns:
            A future that is done when the line is on disk, or has the ``OSError`` that kept it from there. Giving up
            on the future takes nothing back.
        """
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((line + b"\n", written))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_pending())
        return written

    async def close(self) -> None:
        """Wait for lines that are still being written."""
        if self._writer is not None:
            await self._writer

    async def _write_pending(self) -> None:
        while self._pending:
            batch, self._pending = self._pending, []
            try:
                await asyncio.to_thread(self._write, b"".join(line for line, _ in batch))
            except OSError as error:
                for _, written in batch:
                    if not written.done():
                        written.set_exception(error)
            else:
                for _, written in batch:
                    if not written.done():
                        written.set_result(None)

    def _write(self, lines: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = file.seek(0, os.SEEK_END)
            if end > 0:
                file.seek(end - 1)
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
        for line in file:
            if not line.strip():
                continue
            try:
                row = kind.model_validate_json(line)
            except ValidationError:
                unreadable += 1
            else:
                yield row
    if unreadable:
        logger.warning("%s: %d torn or unreadable line(s) skipped, as if they had not been written", path, unreadable)
