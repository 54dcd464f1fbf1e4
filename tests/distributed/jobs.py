"""Jobs that need no model, and the cluster they run on: workers import this module."""

import os
import signal
import sys
import time
from pathlib import Path

import torch

from mulcot_rd.distributed import ClusterParameters, Group, Job
from mulcot_rd.errors import UserError


def cluster(workers, **given) -> ClusterParameters:
    """So many processes of one thread on this machine's processor."""
    return ClusterParameters(
        **{"workers": workers, "cpus_per_worker": 1, "gpus_per_worker": 0, "max_failures": 1, **given}
    )


class Calls(Job):
    """Every way in which processes talk to each other."""

    def run(self, group: Group):
        tensor = torch.tensor([group.rank + 1.0, 1.0], dtype=torch.float64)
        group.sum_(tensor)
        group.barrier()
        return {
            "sum": tensor.tolist(),
            "gathered": group.gather(group.rank),
            "broadcast": group.broadcast(f"of {group.rank}"),
            "shares": group.gather(list(group.share(range(5)))),
            "pids": group.gather(os.getpid()),
            "threads": torch.get_num_threads(),
            "environment": os.environ.get("MULCOT_TEST"),
        }


class Dies(Job):
    """A worker that is killed at its first start, or at each."""

    always: bool
    mark: Path

    def run(self, group: Group):
        group.barrier()
        if group.rank == 1 and (self.always or not self.mark.exists()):
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return group.gather(group.rank)


class Fails(Job):
    """A worker whose job raises."""

    users: bool
    count: Path

    def run(self, group: Group):
        with self.count.open("a") as stream:
            stream.write(f"{group.rank}\n")
        group.barrier()
        if group.rank == 1:
            raise UserError("posts.csv has no column 'label'") if self.users else KeyError("a bug")
        group.barrier()


class Waits(Job):
    """Says who works, and never ends."""

    def run(self, group: Group):
        print(group.gather(os.getpid()), flush=True) if group.is_first else group.gather(os.getpid())
        time.sleep(300)


class Imported(Job):
    """Whether a module was there before the job began."""

    module: str

    def run(self, group: Group):
        return all(group.gather(self.module in sys.modules))
