"""Starting the processes of a job."""

from pathlib import Path
from typing import Any

import torch

from mulcot_rd.distributed import local
from mulcot_rd.distributed.group import ALONE
from mulcot_rd.distributed.job import Job
from mulcot_rd.distributed.parameters import ClusterParameters
from mulcot_rd.distributed.worker import Assignment, limited_threads, on_disk
from mulcot_rd.extras import extra


def check_engine(engine: str) -> None:
    """Refuse an engine whose package is not installed.

    Raises:
        UserError: With the cure.
    """
    if engine == "ray":
        with extra("ray"):
            # This module and not Ray itself: it sets what Ray reads when it is imported.
            from mulcot_rd.distributed import on_ray  # noqa: F401, PLC0415


def launch(job: Job, cluster: ClusterParameters, folder: Path, most: int) -> Any:
    """Run a job in a group of processes and return what it returned at rank 0.

    A worker that dies is replaced: all start again and go on from what is on disk, ``max_failures`` times.

    Args:
        job: What to do.
        cluster: Where, and in how many processes.
        folder: Where the workers' copy of the job lies meanwhile; all nodes see it.
        most: Parts that the work can be dealt in; 1 does it in one process.

    Raises:
        UserError: If the job can't be done as a user wants it, or workers died too often.
    """
    check_engine(cluster.engine)
    if cluster.engine == "ray":
        # Imported here: ray is optional.
        from mulcot_rd.distributed import on_ray  # noqa: PLC0415

        return on_ray.run(job, cluster, folder, most)
    gpus = torch.cuda.device_count()
    size = cluster.group_size(gpus=gpus, threads=torch.get_num_threads(), most=most)
    threads, on_gpu = cluster.threads(size), cluster.on_gpus(gpus)
    # Only a process that begins can be given another environment, or be kept from the GPU.
    if size == 1 and not cluster.environment and on_gpu == bool(gpus):
        with limited_threads(threads):
            return job.run(ALONE)
    with on_disk(job, folder):
        assignment = Assignment(type(job), folder.absolute(), Path.cwd(), threads, cluster.environment, on_gpu)
        return local.run(assignment, size, cluster.max_failures)
