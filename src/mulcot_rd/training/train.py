"""Training of a model from files to files: what assistant and student have in common."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from mulcot_rd.distributed import launch
from mulcot_rd.errors import UserError
from mulcot_rd.kept import Kept, verify
from mulcot_rd.schema import Post, TrainingRow
from mulcot_rd.training.job import TrainingJob
from mulcot_rd.training.loop import HISTORY, read_history
from mulcot_rd.training.parameters import ModelParameters
from mulcot_rd.training.soft_labels import SoftLabels


def train_model(
    name: Literal["assistant", "student"],
    parameters: ModelParameters,
    posts: Sequence[Post],
    rows: Sequence[TrainingRow],
    soft_labels: SoftLabels | None,
    checkpoint: dict[str, Any],
    models: Path,
) -> dict[str, Any]:
    """Train a model and return the manifest of the best epoch's adapter, which is finished in a folder of its own.

    One that is finished and was made from the same things is found again, one in work is continued. Nothing finished
    is touched: whoever saves the manifest puts its folder in use. Arguments are those of :class:`TrainingJob`.

    Raises:
        DamagedError: If the finished one has a file that is missing or was changed.
        SoftLabelError: If the soft labels belong to other rows, targets or inputs, or another tokenizer.
        UserError: If there are more workers than micro-batches in a window.
    """
    job = TrainingJob(
        name=name,
        # Dev posts are answered by the model in training.
        parameters=parameters.model_copy(update={"generation": parameters.generation.local()}),
        posts=list(posts),
        rows=list(rows),
        soft_labels=None if soft_labels is None else soft_labels.folder,
        checkpoint=checkpoint,
        models=models,
    )
    return finished(job)


def finished(job: TrainingJob) -> dict[str, Any]:
    """The manifest of what a job trains: found again, or trained; errors are those of :func:`train_model`."""
    kept = Kept(job.models, job.name)
    done = kept.find(job.fingerprint)
    if done is not None:
        verify(Path(done["folder"]), done["files"])
        return done
    work = kept.begin(job.fingerprint, job.made_from)
    return launch(job, job.parameters.cluster, work / "job", _workers(job))


def _workers(job: TrainingJob) -> int:
    """In how many processes the training can run at most.

    Raises:
        UserError: If more are wanted.
    """
    cluster, most = job.parameters.cluster, job.most_workers
    wanted = cluster.workers or 1
    if wanted > most:
        raise UserError(
            f"{wanted} workers can't share the {most} micro-batches of a step of the {job.name}: set cluster.workers "
            f"to {most} or fewer, or raise gradient_accumulation_steps and lower batch_size"
        )
    return cluster.parts(most, len(job.examples))


def history_of(folder: Path) -> list[dict[str, Any]]:
    """The training history kept beside an adapter: losses by step, scores by epoch."""
    # Earlier versions left it in a folder of work.
    former = folder / "work" / HISTORY
    return read_history(former if former.is_file() else folder / HISTORY)
