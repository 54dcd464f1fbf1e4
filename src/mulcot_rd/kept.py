"""Results that take hours, on disk under their fingerprint: a finished one is found again, and none is deleted.

A result is a folder, complete when its manifest is there, which is written last. Below a run's folder it lies in one of
three places: ``<name>``, the one in use; ``earlier/<name>-<fingerprint>``, one that another has replaced;
``work/<name>/<fingerprint>/result``, one that is finished and not in use yet. With versions ``<name>`` is a folder of
them, the newest is in use, and what others replaced stays there.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mulcot_rd.errors import UserError
from mulcot_rd.files import write_json
from mulcot_rd.fingerprint import differences, file_fingerprint, fingerprint, remembered_fingerprint
from mulcot_rd.renamed import current_names
from mulcot_rd.versions import newest

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
# Says in a folder of work what is made there.
_NOTE = "made_from.json"
# Files of a result that a person may change: a model card, and the manifest, which can't hold its own hash.
_FREE = (MANIFEST, "README.md")


class DamagedError(UserError):
    """A file of a finished result is missing, or no longer what was written."""


@dataclass(frozen=True)
class Kept:
    """The results of one name below a run's folder.

    Attributes:
        folder: The run's folder in a layer of ``data/``.
        name: Name of the result, such as "assistant".
    """

    folder: Path
    name: str

    @property
    def place(self) -> Path:
        """Where the result in use lies."""
        return self.folder / self.name

    @property
    def in_use(self) -> Path:
        """The result in use: the newest version, where there are versions."""
        return newest(self.place)

    def work(self, fingerprint: str) -> Path:
        """Where a result of this fingerprint is being made."""
        return self.folder / "work" / self.name / fingerprint[:12]

    def result(self, fingerprint: str) -> Path:
        """Where a result of this fingerprint is put together before :meth:`put` puts it in use."""
        return self.work(fingerprint) / "result"

    def find(self, fingerprint: str) -> dict[str, Any] | None:
        """The manifest of the finished result of this fingerprint with its ``folder``, or ``None``.

        A manifest that was deleted or damaged beside intact files is written again.
        """
        versions = sorted(self.place.glob(f"*/{self.name}"), reverse=True)
        places = (*(versions or [self.place]), self._earlier(fingerprint), self.result(fingerprint))
        for path in places:
            manifest = read_manifest(path)
            if manifest is not None and manifest["fingerprint"] == fingerprint:
                return {**manifest, "folder": str(path)}
        copy = read_manifest(self.work(fingerprint))
        for path in places:
            if copy is not None and self._lost_manifest(path) and not damaged_files(path, copy["files"]):
                logger.info("%s had lost its %s, which is written again: its files are intact", path, MANIFEST)
                write_manifest(path, copy)
                return {**copy, "folder": str(path)}
        return None

    def _lost_manifest(self, path: Path) -> bool:
        """Whether a folder is there without a manifest, or with one that :meth:`put` did not see."""
        manifest = read_manifest(path)
        return path.is_dir() and (manifest is None or read_manifest(self.work(manifest["fingerprint"])) is None)

    def begin(self, fingerprint: str, made_from: Mapping[str, Any]) -> Path:
        """The folder to make a result in, after the log has said in what it differs from others of its name."""
        finished = read_manifest(self.in_use)
        if finished is not None and "made_from" in finished:
            changed = "; ".join(differences(finished["made_from"], made_from))
            logger.warning(
                "%s: made anew, and then in use in place of %s, which was made from other things and is kept (run=NAME "
                "leaves it in use): %s", self.name, self.in_use, changed,
            )  # fmt: skip
        work = self.work(fingerprint)
        for note in sorted(work.parent.glob(f"*/{_NOTE}")):
            changed = "; ".join(differences(_parsed(note.read_text(encoding="utf-8"), str(note)), made_from))
            if changed:
                logger.info("%s: %s is unfinished work of other things: %s", self.name, note.parent, changed)
        write_json(work / _NOTE, made_from)
        return work

    def put(self, made: Path) -> None:
        """Let the finished result in ``made`` be the one in use; the one that was moves to ``earlier``.

        Two renames: whoever is killed between them finds the result again by its fingerprint.
        """
        if made != self.place:
            self.set_aside()
            made.rename(self.place)
        manifest = read_manifest(self.place)
        if manifest is None:
            raise DamagedError(f"{self.place} has no {MANIFEST}: run the pipeline that makes it again")
        self.leave_manifest(manifest)

    def leave_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Empty the folder of work of a result in use; a copy of its manifest stays, to mend the result by."""
        work = self.work(manifest["fingerprint"])
        shutil.rmtree(work, ignore_errors=True)
        write_manifest(work, manifest)

    def set_aside(self) -> Path | None:
        """Move the result in use to ``earlier``, and say where it is now; ``None`` where there is none."""
        if not self.place.is_dir():
            return None
        manifest = read_manifest(self.place)
        if manifest is None and not any(self.place.iterdir()):
            self.place.rmdir()
            return None
        wanted = self._earlier(manifest["fingerprint"] if manifest else "without-manifest")
        aside, number = wanted, 1
        while aside.exists():
            number += 1
            aside = wanted.with_name(f"{wanted.name}-{number}")
        aside.parent.mkdir(parents=True, exist_ok=True)
        self.place.rename(aside)
        logger.info("%s: the one that was in use is kept as %s", self.name, aside)
        return aside

    def _earlier(self, fingerprint: str) -> Path:
        return self.folder / "earlier" / f"{self.name}-{fingerprint[:12]}"


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a result, or ``None`` where there is none.

    Raises:
        DamagedError: If it can't be read.
    """
    path = folder / MANIFEST
    return parsed_manifest(path.read_text(encoding="utf-8"), str(path)) if path.is_file() else None


def parsed_manifest(text: str, path: str) -> dict[str, Any]:
    """The manifest that was read from a path.

    Raises:
        DamagedError: If it is not what was written.
    """
    manifest = _parsed(text, path)
    # Earlier versions wrote no hash.
    if manifest.pop("hash", None) not in (None, fingerprint(manifest)) or "fingerprint" not in manifest:
        raise DamagedError(f"{path} is not what was written: delete it, the next run writes it again")
    return manifest


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest of a result, with a hash of itself."""
    # As it will be read: with lists in place of tuples.
    plain = json.loads(json.dumps(manifest))
    write_json(folder / MANIFEST, {**plain, "hash": fingerprint(plain)})


def run_folder(result: Path) -> Path:
    """The run's folder that a result lies in, whichever of its places it is in."""
    result = result.resolve()
    above = result.parents
    if result.name == "result":
        return above[3]
    if above[0].name == "earlier":
        return above[1]
    # PATH/<version>/<file name>
    return above[2] if above[1].name == result.name else above[0]


def _parsed(text: str, path: str) -> dict[str, Any]:
    try:
        return json.loads(text, object_hook=current_names)
    except ValueError as error:
        raise DamagedError(f"{path} is not valid JSON ({error}): delete it, the next run writes it again") from error


def file_hashes(folder: Path, memory: Path | None = None) -> dict[str, str]:
    """Name and hash of each file of a result, for its manifest.

    Args:
        folder: The result.
        memory: File that remembers hashes by size and time, where reading everything anew would take long.
    """
    free = _FREE if memory is None else (*_FREE, memory.name)
    # A name that begins with a dot is a file that a kill left half written.
    names = sorted(p.name for p in folder.iterdir() if p.is_file() and p.name not in free and p.name[0] != ".")
    return {name: _hash(folder / name, memory) for name in names}


def damaged_files(folder: Path, hashes: Mapping[str, str], memory: Path | None = None) -> list[str]:
    """The files of a result that are missing, or no longer have the hash in its manifest."""
    return [
        name
        for name, wanted in hashes.items()
        if not (folder / name).is_file() or _hash(folder / name, memory) != wanted
    ]


def _hash(path: Path, memory: Path | None) -> str:
    return file_fingerprint(path) if memory is None else remembered_fingerprint(path, memory)


def verify(folder: Path, hashes: Mapping[str, str]) -> None:
    """Check a finished result against the hashes in its manifest.

    Raises:
        DamagedError: If a file is missing or was changed.
    """
    if damaged := damaged_files(folder, hashes):
        raise DamagedError(
            f"{folder}: {', '.join(damaged)} is missing or not the file that was written, by the hash in {MANIFEST}: "
            f"put the original back, or move {folder} away and run the pipeline that makes it again"
        )
