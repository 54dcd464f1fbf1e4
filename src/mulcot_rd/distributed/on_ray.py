"""Workers on a Ray cluster, by Ray Train."""

import logging
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

# Ray reads these when it is imported. Workers stay in the project's folder, and nothing is reported to anybody.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
# A warning, many times a minute, where Ray runs without its dashboard.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "Failed to query Ray Train Controller actor state")

import psutil
import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from mulcot_rd.distributed.group import Group
from mulcot_rd.distributed.job import Job
from mulcot_rd.distributed.parameters import ClusterParameters
from mulcot_rd.distributed.signals import handlers_restored
from mulcot_rd.distributed.worker import TIMEOUT, Assignment, do_part, on_disk, prepare_worker, user_error
from mulcot_rd.errors import UserError

logger = logging.getLogger(__name__)


def run(job: Job, cluster: ClusterParameters, folder: Path, most: int) -> Any:
    """Run a job on a Ray cluster; see :func:`~mulcot_rd.distributed.launch`.

    Raises:
        UserError: If the cluster can't be reached or is too small, or the job can't be done as a user wants it.
    """
    _connect(cluster)
    there = ray.cluster_resources()
    gpus, processors = int(there.get("GPU", 0)), int(there.get("CPU", 1))
    size = cluster.group_size(gpus=gpus, threads=processors, most=most)
    on_gpu = cluster.on_gpus(gpus)
    cpus = cluster.cpus_per_worker or _processors_of_a_worker(size, on_gpu)
    if size * cpus > processors:
        raise UserError(
            f"{size} workers of {cpus} processors each need {size * cpus}, and the Ray cluster has {processors}: lower "
            "cluster.workers or cluster.cpus_per_worker, or add nodes"
        )
    with on_disk(job, folder):
        assignment = Assignment(type(job), folder.absolute(), Path.cwd(), cpus, cluster.environment, on_gpu)
        trainer = TorchTrainer(
            _work,
            # On this machine alone the process that started Ray can be watched.
            train_loop_config={"assignment": assignment, "driver": None if cluster.address else os.getpid()},
            torch_config=TorchConfig(
                backend="cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout_s=int(TIMEOUT.total_seconds())
            ),
            scaling_config=ScalingConfig(
                num_workers=size,
                use_gpu=on_gpu,
                resources_per_worker={"CPU": cpus, **({"GPU": 1} if on_gpu else {})},
            ),
            # A name of its own: under one that was used before, Ray would go on with what it finds there.
            run_config=RunConfig(
                name=f"mulcot-rd-{uuid4().hex[:12]}",
                storage_path=str(assignment.folder / "ray"),
                failure_config=FailureConfig(max_failures=cluster.max_failures),
            ),
        )
        logger.info("%d workers on Ray, %d processors each%s", size, cpus, ", one GPU each" if on_gpu else "")
        try:
            with handlers_restored():
                result = trainer.fit()
        except TrainingFailedError as error:
            raise user_error(assignment.folder) or error from error
        if found := user_error(assignment.folder):
            raise found
        return result.return_value


def _connect(cluster: ClusterParameters) -> None:
    """Connect to the cluster once, or start one on this machine."""
    if ray.is_initialized():
        return
    options: dict[str, Any] = {"log_to_driver": True, "logging_level": logging.WARNING}
    if cluster.address is None:
        # This machine alone: nothing listens to others.
        options |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        # It would tell of machines that a cloud takes back.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    logging_config = Path("conf/logging.yml")
    # Here, too: what gloo reads must be there before Ray connects the workers.
    variables = {"RAY_CHDIR_TO_TRIAL_DIR": "0", **cluster.environment}
    if logging_config.is_file():
        variables["KEDRO_LOGGING_CONFIG"] = str(logging_config.absolute())
    try:
        ray.init(address=cluster.address or "local", runtime_env={"env_vars": variables}, **options)
    # A Ray that does not start in time raises no narrower one.
    except Exception as error:
        if cluster.address is None:
            raise UserError(
                f"Ray did not start on this machine ({error}): run the same command again when less runs beside it"
            ) from error
        raise UserError(
            f"no Ray cluster answers at {cluster.address}: start one (ray start --head) ({error})"
        ) from error


def _processors_of_a_worker(size: int, on_gpu: bool) -> int:
    """As many processors as every node can give each of its workers."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if on_gpu:
        return max(1, min(int(node.get("CPU", 1) // node["GPU"]) for node in nodes if node.get("GPU")))
    return max(1, int(min(node.get("CPU", 1) for node in nodes)) // -(-size // len(nodes)))


def _work(config: dict[str, Any]) -> Any:
    """What each worker runs; Ray has connected them."""
    assignment: Assignment = config["assignment"]
    if config["driver"] is not None:
        threading.Thread(target=_end_with, args=(config["driver"],), daemon=True).start()
    context = ray.train.get_context()
    prepare_worker(assignment, context.get_world_rank())
    return do_part(assignment, Group(context.get_world_rank(), context.get_world_size()))


def _end_with(driver: int) -> None:
    """End this process when the driver is gone: Ray takes seconds, in which it would write beside whoever goes on."""
    with suppress(psutil.NoSuchProcess):
        psutil.Process(driver).wait()
    signal.raise_signal(signal.SIGKILL)
