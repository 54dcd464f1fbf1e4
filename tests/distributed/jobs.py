"""Jobs of the tests, and the cluster they run on: workers import this module."""

import os
import signal
import sys
import time
from pathlib import Path

import torch

from mulcot_rd.distributed import ClusterParameters, Group, Job, launch
from mulcot_rd.errors import UserError
from mulcot_rd.generation import AnswerLog
from mulcot_rd.generation.trained import AnsweringJob
from mulcot_rd.training.job import TrainingJob
from mulcot_rd.training.soft_label_writing import Shards, SoftLabelJob


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


KILLED = "MULCOT_TEST_KILLED"


class DyingTraining(TrainingJob):
    """A training in which rank 1 is killed at the first start and rank 0 at the second, in their third micro-batch."""

    def _objective(self, model):
        made, batches, mark = super()._objective(model), iter(range(2)), Path(os.environ[KILLED])

        class Dying(type(made)):
            def __call__(self, *given):
                rank = os.environ["RANK"]
                killed = mark.read_text() if mark.exists() else ""
                if next(batches, None) is None and killed == {"1": "", "0": "1"}[rank]:
                    mark.write_text(killed + rank)
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().__call__(*given)

        return Dying(**vars(made))


def _killed_after(done: str, group: Group) -> None:
    """Kill rank 1 once, when it has done one unit of work."""
    mark = Path(os.environ[KILLED])
    if group.rank == 1 and not mark.exists():
        mark.write_text(done)
        os.kill(os.getpid(), signal.SIGKILL)


class DyingAnswers(AnsweringJob):
    """Answers, of which rank 1 writes one unit before it is killed."""

    def run(self, group):
        add = AnswerLog.add

        def adding(log, answers):
            add(log, answers)
            _killed_after(answers[0].post_id, group)

        AnswerLog.add = adding
        super().run(group)


class DyingSoftLabels(SoftLabelJob):
    """Soft labels, of which rank 1 writes one shard before it is killed."""

    def run(self, group):
        write = Shards.write

        def writing(shards, number, tensors):
            write(shards, number, tensors)
            _killed_after(str(number), group)

        Shards.write = writing
        super().run(group)


if __name__ == "__main__":
    # jobs.py JOB FOLDER: run a training whose job is in a file.
    job = TrainingJob.model_validate_json(Path(sys.argv[1]).read_text())
    launch(job, job.parameters.cluster, Path(sys.argv[2]) / "job", most=3)
