"""Jobs of models whose workers are killed: workers import this module."""

import os
import signal
import sys
from pathlib import Path

from mulcot_rd.distributed import Group, launch
from mulcot_rd.generation import AnsweringJob, AnswerLog
from mulcot_rd.training.job import TrainingJob
from mulcot_rd.training.soft_label_writing import Shards, SoftLabelJob

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
    # model_jobs.py JOB FOLDER: run a training whose job is in a file.
    job = TrainingJob.model_validate_json(Path(sys.argv[1]).read_text())
    launch(job, job.parameters.cluster, Path(sys.argv[2]) / "job", most=3)
