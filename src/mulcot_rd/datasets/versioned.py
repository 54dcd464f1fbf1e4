"""What datasets of files have in common: versions, saved in one step, on any file system."""

import copy
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import fsspec
from kedro.io import AbstractDataset, AbstractVersionedDataset, DatasetError, Version
from kedro.io.core import generate_timestamp, get_protocol_and_path

from mulcot_rd.errors import UserError
from mulcot_rd.files import locked, replace_file
from mulcot_rd.fingerprint import bytes_fingerprint
from mulcot_rd.versions import RECORD

logger = logging.getLogger(__name__)

# The files of a dataset, by what each adds to the dataset's path.
Content = dict[str, bytes]
InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")


def _after(version: str) -> str:
    """The name of a version that is saved now, behind this one."""
    now = generate_timestamp()
    if now > version:
        return now
    try:
        ahead = datetime.strptime(version, "%Y-%m-%dT%H.%M.%S.%fZ")
    except ValueError:
        # A folder that somebody named by hand: it stays the newest.
        return now
    logger.warning(
        "the version %s is of the future: a clock was ahead, and what is saved now is named behind it", version
    )
    return _stamp(ahead + timedelta(milliseconds=1))


def _stamp(time: datetime) -> str:
    """The name of a version as Kedro writes it."""
    return f"{time:%Y-%m-%dT%H.%M.%S}.{time.microsecond // 1000:03d}Z"


def record_at(files: fsspec.AbstractFileSystem, path: str) -> dict[str, Any]:
    """What a record beside a version says.

    Raises:
        UserError: If it is damaged.
    """
    try:
        return json.loads(files.cat_file(path))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): move it away; the version then has no record") from error


class VersionedFiles:
    """Mixin of a versioned dataset of Kedro's: saved in one step, equal content once, on any file system.

    A reader sees the old files or the new ones, never half. With ``versioned: true`` they lie in
    ``PATH/<version>/<file name>`` with ``made_from.json`` beside them, and what equals the newest version makes no new
    one. A file that an earlier release of this project left at ``PATH`` itself is the oldest version; it moves into a
    folder of its own once another one is saved.

    Attributes:
        record: What the next version is made from (:mod:`mulcot_rd.lineage`), its inputs under "inputs"; without it no
            record is written.
    """

    record: Mapping[str, Any] | None = None
    _version: Version | None
    # What each file adds to the path. The last one is written last: a version is there once this one is.
    _endings: tuple[str, ...] = ("",)

    @classmethod
    def _save_wrapper(cls, save_func: Callable[..., None]) -> Callable[..., None]:
        """Kedro's, without its warning that another version loads than was to be saved: equal content makes none."""
        return AbstractDataset._save_wrapper.__func__(cls, save_func)  # type: ignore[attr-defined]

    def save(self: Any, data: Any) -> None:
        """Save a version, unless the newest one is equal; without versions replace what is there, unless it is."""
        content = self._content(data)
        if self._version is None:
            self._refuse_versions()
            if self._read(self._filepath) != content:
                self._write(self._filepath, content)
            return
        self._save_version(
            lambda path: self._read(path) == content,
            lambda path: self._write(path, content),
            bytes_fingerprint(*content.values()),
        )

    def fingerprint(self: Any) -> str:
        """A hash of the content that loads."""
        return bytes_fingerprint(*self._read(self._get_load_path()).values())

    def read_record(self: Any, version: str) -> dict[str, Any]:
        """What a version was made from; empty where nothing says so."""
        path = str(self._get_versioned_path(version).with_name(RECORD))
        return record_at(self._fs, path) if self._fs.exists(path) else {}

    def _save_version(
        self: Any, holds: Callable[[PurePosixPath], bool], write: Callable[[PurePosixPath], None], fingerprint: str
    ) -> None:
        """Write a version with its record, unless the newest one holds the same already."""
        with self._alone():
            self._clear_version_cache()
            # Here and below of the whole store: not every file system forgets the folders above a file.
            self._fs.invalidate_cache()
            there = next(iter(self._get_versions()), None)
            if there is None or not holds(self._place(there)):
                if there is not None and self._place(there) == self._filepath:
                    self._move_unversioned(self._get_version_from_path(there))
                path = self._get_save_path()
                if there is not None and self._get_version_from_path(there) > self._get_version_from_path(str(path)):
                    # A run that began later has saved before: what is saved last is the newest.
                    path = self._get_versioned_path(_after(self._get_version_from_path(there)))
                self._write_record(path, fingerprint)
                write(path)
                self._fs.invalidate_cache()
                there = str(path)
            elif self._place(there) != self._filepath and self.record is not None:
                # Equal content from other inputs: the record says what it was last made from.
                record = self.read_record(self._get_version_from_path(there))
                if record.get("inputs") != self.record["inputs"]:
                    self._write_record(PurePosixPath(there), fingerprint)
            # What this run saved is what its later nodes load, whatever other runs save meanwhile.
            self._cached_load_version = self._get_version_from_path(there)

    def _write_record(self: Any, path: PurePosixPath, fingerprint: str) -> None:
        if self.record is not None:
            record = {**self.record, "fingerprint": fingerprint}
            self._write_file(str(path.with_name(RECORD)), json.dumps(record, indent=2).encode())

    def _content(self: Any, data: Any) -> Content:
        """The files that hold the data: what Kedro's own ``save`` writes."""
        with TemporaryDirectory() as folder:
            beside = copy.copy(self)
            beside._filepath, beside._version = PurePosixPath(folder, self._filepath.name), None
            beside._fs, beside._protocol = fsspec.filesystem("file"), "file"
            # That of the dataset which this is mixed into.
            super(VersionedFiles, beside).save(data)  # type: ignore[misc]
            return {"": Path(beside._filepath).read_bytes()}

    def _write(self: Any, path: PurePosixPath, content: Content) -> None:
        for ending in self._endings:
            self._write_file(f"{path}{ending}", content[ending])

    def _write_file(self: Any, path: str, data: bytes) -> None:
        if self._protocol == "file":
            replace_file(Path(path), lambda temporary: temporary.write_bytes(data))
        else:
            # A store replaces an object in one step by itself.
            self._fs.pipe_file(path, data)

    def _read(self: Any, path: PurePosixPath) -> Content:
        files = {ending: f"{path}{ending}" for ending in self._endings}
        return {ending: self._fs.cat_file(file) for ending, file in files.items() if self._fs.isfile(file)}

    def _is_there(self: Any, path: str) -> bool:
        """Whether a version, or what lies at the path itself, is whole."""
        return self._fs.isfile(self._marker(path))

    def _marker(self, path: PurePosixPath | str) -> str:
        """The file that is written last."""
        return f"{path}{self._endings[-1]}"

    def _in_folder(self: Any) -> list[str]:
        """The versions in their folder, newest first."""
        folder = str(self._filepath)
        there = self._fs.ls(folder, detail=False) if self._fs.isdir(folder) else []
        names = sorted((PurePosixPath(path).name for path in there), reverse=True)
        paths = [str(self._get_versioned_path(name)) for name in names if not name.startswith(".")]
        return [path for path in paths if self._is_there(path)]

    def _get_versions(self: Any) -> list[str]:
        """Kedro's, newest first, without patterns: the path may hold brackets."""
        if found := self._in_folder():
            return found
        if (version := self._unversioned()) is not None:
            return [str(self._get_versioned_path(version))]
        if self._fs.isdir(self._moving()):
            # A kill came between the last two steps of _move_unversioned.
            self._end_move()
            return self._get_versions()
        return []

    def _get_load_path(self: Any) -> PurePosixPath:
        if self._version is None:
            self._refuse_versions()
            return self._filepath
        return self._place(str(super()._get_load_path()))  # type: ignore[misc]

    def _place(self: Any, path: str) -> PurePosixPath:
        """Where a version lies: in its folder, or at the path itself if it is of an earlier release."""
        own = self._get_version_from_path(path) == self._unversioned() and not self._is_there(path)
        return self._filepath if own else PurePosixPath(path)

    def _unversioned(self: Any) -> str | None:
        """The version of what lies at the path itself: the time it was written."""
        if not self._is_there(str(self._filepath)):
            return None
        written: datetime = self._fs.modified(self._marker(self._filepath))
        return _stamp(written.astimezone(UTC))

    def _moving(self: Any) -> str:
        return str(self._filepath.with_name(f".{self._filepath.name}.versions"))

    def _move_unversioned(self: Any, version: str) -> None:
        """Let what lies at the path itself be the oldest version."""
        content = self._read(self._filepath)
        if "" not in content:
            # Beside the folder of versions, where the newest one will be.
            self._write(self._get_versioned_path(version), content)
            return
        moving = self._moving()
        if self._fs.isdir(moving):
            self._fs.rm(moving, recursive=True)
        self._write(PurePosixPath(moving, version, self._filepath.name), content)
        self._fs.rm_file(str(self._filepath))
        self._end_move()

    def _end_move(self: Any) -> None:
        moving = self._moving()
        for file in self._fs.find(moving):
            target = self._get_versioned_path(self._get_version_from_path(file))
            self._fs.makedirs(str(target.parent), exist_ok=True)
            self._fs.mv(file, str(target))
        if self._fs.isdir(moving):
            self._fs.rm(moving, recursive=True)

    def _refuse_versions(self: Any) -> None:
        # Of tables and figures the newest lies beside its folder of versions, where anybody reads it.
        if "" in self._endings and self._in_folder():
            raise DatasetError(
                f"{self._filepath} is a folder of versions, and versions are off: leave out versions=false, "
                "or move the folder away"
            )

    @contextmanager
    def _alone(self: Any) -> Iterator[None]:
        """Keep other processes from saving meanwhile, where the file system has locks."""
        if self._protocol == "file":
            with locked(Path(self._filepath)):
                yield
        else:
            yield


class VersionedDataset(VersionedFiles, AbstractVersionedDataset[InputT, OutputT]):
    """A dataset of files that none of Kedro's reads."""

    def __init__(
        self,
        *,
        filepath: str | os.PathLike[str],
        version: Version | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Name the path.

        Args:
            filepath: A path, with a protocol such as ``s3://`` where it is not on this machine.
            version: Of Kedro's; ``versioned: true`` in the catalog sets it.
            credentials: Of the file system.
            fs_args: Further arguments of the file system (:func:`fsspec.filesystem`).
            metadata: Anything; kedro-viz reads its part.
        """
        self._protocol, path = get_protocol_and_path(filepath, version)
        self._fs = fsspec.filesystem(self._protocol, **(credentials or {}), **(fs_args or {}))
        self.metadata = metadata
        super().__init__(PurePosixPath(path), version, self._is_there)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "protocol": self._protocol, "version": self._version}

    def _exists(self) -> bool:
        return self._is_there(str(self._get_load_path()))

    def _release(self) -> None:
        super()._release()
        self._fs.invalidate_cache()
