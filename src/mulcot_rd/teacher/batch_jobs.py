"""What a killed process must know of its batches, in a folder beside the ledger.

``jobs.json`` names every batch whose answers are not all in the ledger yet, and is replaced in one step. A job is
noted before its batch is created, under a name that also goes into the batch's metadata: a process that was killed
between the two finds the batch by that name. What a batch answered is kept in ``<name>.results.jsonl`` until the
ledger has it.
"""

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mulcot_rd.files import replace_file, write_text
from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.schema import Record
from mulcot_rd.teacher.batch_files import read_results
from mulcot_rd.teacher.errors import TeacherError


class BatchJob(Record):
    """One batch.

    Attributes:
        name: Fingerprint of its questions and of its number; the batch's metadata has it as well.
        base_url: The server that has it.
        model: The model that is asked.
        keys: Its questions, as the ledger keys them: the ``custom_id`` of its lines.
        batch_id: The server's name for it, or ``None`` while it is not known whether it was created.
        collected: Whether its results are on this disk.
        latency_s: Seconds from its creation to its end, once it is collected.
    """

    name: str
    base_url: str
    model: str
    keys: tuple[str, ...]
    batch_id: str | None = None
    collected: bool = False
    latency_s: float = 0.0


class _Jobs(Record):
    """``jobs.json``.

    ``begun`` counts all jobs ever, so that no two have the same name; ``reserving`` are questions that money is set
    aside for and that no job has yet.
    """

    begun: int = 0
    jobs: tuple[BatchJob, ...] = ()
    reserving: tuple[str, ...] = ()


class BatchFolder:
    """The folder of a ledger's batches."""

    def __init__(self, ledger_path: Path) -> None:
        """Read what is noted; the folder is made with the first note.

        Raises:
            TeacherError: If the notes can't be read.
        """
        self.path = ledger_path.with_suffix(".batches")
        self._file = self.path / "jobs.json"
        self._noted = _Jobs()
        if self._file.exists():
            try:
                self._noted = _Jobs.model_validate_json(self._file.read_bytes())
            except ValidationError as error:
                raise TeacherError(
                    f"{self._file} can't be read ({error.error_count()} fault(s)): delete {self.path} to have its "
                    "batches asked again"
                ) from None

    @property
    def jobs(self) -> tuple[BatchJob, ...]:
        """The batches whose answers are not all in the ledger, oldest first."""
        return self._noted.jobs

    def jobs_for(self, model: str) -> tuple[BatchJob, ...]:
        """Those of one model: teacher and captioner share a ledger."""
        return tuple(job for job in self.jobs if job.model == model)

    @property
    def reserving(self) -> tuple[str, ...]:
        """Questions that money was set aside for and that were not sent."""
        return self._noted.reserving

    def note_reserving(self, keys: Sequence[str]) -> None:
        """Note what money is set aside for from now on, until a job has it."""
        if tuple(keys) != self.reserving:
            self.path.mkdir(parents=True, exist_ok=True)
            self._write(reserving=tuple(keys))

    @property
    def input_path(self) -> Path:
        """Where the input file of the next batch is written; nothing of it is needed once it is uploaded."""
        self.path.mkdir(parents=True, exist_ok=True)
        return self.path / "input.jsonl"

    def begin(self, base_url: str, model: str, keys: Sequence[str]) -> BatchJob:
        """Note a batch that is about to be created."""
        number = self._noted.begun + 1
        name = fingerprint(base_url, list(keys), number)
        job = BatchJob(name=name, base_url=base_url, model=model, keys=tuple(keys))
        has = set(keys)
        reserving = tuple(key for key in self.reserving if key not in has)
        self._write(begun=number, jobs=(*self.jobs, job), reserving=reserving)
        return job

    def note_created(self, job: BatchJob, batch_id: str) -> BatchJob:
        """Note the server's name for the batch."""
        return self._replace(job, job.model_copy(update={"batch_id": batch_id}))

    def note_results(self, job: BatchJob, results: Sequence[bytes], latency_s: float) -> BatchJob:
        """Keep what a batch answered, one JSON object a line, then note that it is here."""
        content = b"".join(part if part.endswith(b"\n") or not part else part + b"\n" for part in results)
        replace_file(self._results_path(job), lambda path: path.write_bytes(content) and None)
        return self._replace(job, job.model_copy(update={"collected": True, "latency_s": latency_s}))

    def results(self, job: BatchJob) -> Iterator[bytes]:
        """The lines that a collected batch answered, in any order."""
        with self._results_path(job).open("rb") as file:
            yield from (line for line in file if line.strip())

    def forget(self, job: BatchJob) -> None:
        """Drop a batch that nothing more is to be had from."""
        self._write(jobs=tuple(other for other in self.jobs if other.name != job.name))
        self._results_path(job).unlink(missing_ok=True)

    def forget_settled(self, safe: Callable[[str], bool]) -> None:
        """Drop the batches that nothing more is to be had from: each question is ``safe``, or got no answer."""
        for job in self.jobs:
            missing = {key for key in job.keys if not safe(key)}
            if missing and job.collected:
                results = read_results(self.results(job))
                missing = {key for key in missing if key in results and results[key].status == 200}
            if not missing:
                self.forget(job)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from working on the same batches.

        Raises:
            TeacherError: If one does.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise TeacherError(
                    f"another process works on the batches of {self.path}: wait for it, or end it first"
                ) from None
            yield

    def _results_path(self, job: BatchJob) -> Path:
        return self.path / f"{job.name}.results.jsonl"

    def _replace(self, old: BatchJob, new: BatchJob) -> BatchJob:
        self._write(jobs=tuple(new if job.name == old.name else job for job in self.jobs))
        return new

    def _write(self, **changed: Any) -> None:
        noted = self._noted.model_copy(update=changed)
        write_text(self._file, noted.model_dump_json(indent=1) + "\n")
        self._noted = noted


def refuse_unfinished_batches(ledger_path: Path, model: str, safe: Callable[[str], bool]) -> None:
    """Keep questions that are in a batch from being asked, and paid for, online as well.

    Raises:
        TeacherError: If a batch of an earlier run has, or may yet have, answers that the ledger lacks.
    """
    folder = BatchFolder(ledger_path)
    folder.forget_settled(safe)
    jobs = folder.jobs_for(model)
    if jobs:
        raise TeacherError(
            f"{len(jobs)} batch(es) of an earlier run are not collected: run the same command with "
            f"teacher.mode=batch to collect them, or delete {folder.path} to have their questions asked again"
        )
