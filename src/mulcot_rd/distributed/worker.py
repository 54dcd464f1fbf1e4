"""What a worker does, wherever it was started."""

import json
import logging
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mulcot_rd.distributed.group import Group, PeerLostError
from mulcot_rd.distributed.job import Job
from mulcot_rd.errors import UserError
from mulcot_rd.files import empty_folder, write_json, write_text
from mulcot_rd.messages import is_users, one_sentence

logger = logging.getLogger(__name__)

# How long workers wait for a slow one, whose share takes longer. One that died is noticed at once.
TIMEOUT = timedelta(hours=2)
# Seconds that a worker waits whose peer has ended.
_PATIENCE = 1.0

JOB, ERROR = "job.json", "error.json"


class Assignment(NamedTuple):
    """What a worker is told when it starts.

    Attributes:
        job: The kind of job, whose fields are in ``job.json`` of the folder.
        folder: Where the job is; all nodes see it.
        project: The folder that relative paths begin in.
        threads: Threads of each worker.
        environment: Variables of the worker's environment.
        on_gpu: Whether the worker has a GPU.
    """

    job: type[Job]
    folder: Path
    project: Path
    threads: int
    environment: dict[str, str]
    on_gpu: bool


def prepare_worker(assignment: Assignment, rank: int) -> None:
    """Set up the process, before anything touches a GPU.

    Raises:
        UserError: If the worker does not see the project's folder.
    """
    os.environ.update(assignment.environment)
    if not assignment.on_gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch.set_num_threads(assignment.threads)
    logging.getLogger("mulcot_rd").setLevel(logging.INFO if rank == 0 else logging.WARNING)


def do_part(assignment: Assignment, group: Group) -> Any:
    """Do this process's part of the job.

    An error that a user can mend is written down and ends the job: a worker that starts again returns at once.

    Raises:
        Exception: What the job raised.
    """
    # Whoever left at once would be missed by a worker that is still connecting.
    group.barrier()
    if (assignment.folder / ERROR).exists():
        return None
    try:
        job = _arrived(assignment, group)
        return job.run(group)
    except PeerLostError:
        # The launcher tells of the worker that fails first: let it be the one that ended.
        time.sleep(_PATIENCE)
        raise
    except Exception as error:
        if is_users(error):
            write_json(assignment.folder / ERROR, {"message": one_sentence(error)})
        raise


def _arrived(assignment: Assignment, group: Group) -> Job:
    """The job, once every worker has shown that it sees the same folder.

    Raises:
        UserError: If one does not.
    """
    place = f"{socket.gethostname()} does not see {{}} as the machine that started the run does: "
    cure = "put the project and data_root into a folder that all nodes mount at the same path"
    if not assignment.project.is_dir():
        raise UserError(place.format(assignment.project) + cure)
    os.chdir(assignment.project)
    path = assignment.folder / JOB
    if not path.is_file():
        raise UserError(place.format(assignment.folder) + cure)
    mark = assignment.folder / f"rank-{group.rank}"
    if group.is_first and mark.exists():
        logger.warning("a worker died: all have started again, and go on from what is on disk")
    mark.write_text(str(os.getpid()))
    group.barrier()
    missing = [rank for rank in range(group.size) if not (assignment.folder / f"rank-{rank}").is_file()]
    if group.is_first and missing:
        raise UserError(f"what worker {missing[0]} writes to {assignment.folder} is not seen by all: {cure}")
    return assignment.job.model_validate_json(path.read_text(encoding="utf-8"))


def user_error(folder: Path) -> UserError | None:
    """The error that ended the job, where it is one that a user can mend."""
    path = folder / ERROR
    if not path.exists():
        return None
    return UserError(json.loads(path.read_text(encoding="utf-8"))["message"])


@contextmanager
def on_disk(job: Job, folder: Path) -> Iterator[None]:
    """While inside, the job lies in the folder."""
    write_text(empty_folder(folder) / JOB, job.model_dump_json())
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def limited_threads(number: int) -> Iterator[None]:
    """While inside, PyTorch uses so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
