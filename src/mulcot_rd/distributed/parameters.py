"""Where work runs, and in how many processes."""

from typing import Literal

import torch
from pydantic import Field

from mulcot_rd.errors import UserError
from mulcot_rd.schema import Record

# Rows from which on workers are worth their start.
_WORTH_WORKERS = 200


class ClusterParameters(Record):
    """Where training, answers and soft labels are computed. Nothing here changes a result."""

    engine: Literal["local", "ray"] = Field(
        "local", description="local: this machine; ray: a Ray cluster, which needs the package ray"
    )
    workers: int | None = Field(
        None,
        ge=1,
        description="Processes that share the work. Null takes one for each GPU; without a GPU one for every "
        "cpus_per_worker of the machine's threads, or one where that is null too",
    )
    gpus_per_worker: Literal[0, 1] | None = Field(
        None, description="GPUs of a worker; 0 computes on processors, null takes one where there are GPUs"
    )
    cpus_per_worker: int | None = Field(
        None,
        ge=1,
        description="Threads of a worker, and on Ray the processors that are reserved for it; null shares a "
        "machine's among its workers. Results on a processor are equal to the last bit for equal numbers",
    )
    max_failures: int = Field(
        2, ge=0, description="Times that the workers start again from the last checkpoint after one of them died"
    )
    environment: dict[str, str] = Field({}, description="Environment variables of the workers, such as NCCL's")
    address: str | None = Field(
        None, description="Ray: address of the cluster (auto: the one this machine is part of); null starts Ray here"
    )
    shard_base: bool = Field(
        False,
        description="Training: shard the frozen weights over the workers (FSDP2), which leaves activations more room; "
        "dev posts are scored with whole weights",
    )
    gradient_sum: Literal["float64", "float32"] = Field(
        "float64",
        description="Type in which gradients are added up. float64 makes the result independent of the number of "
        "workers; float32 takes half the memory, where all parameters of a large model are trained, and the results "
        "differ by rounding",
    )

    def parts(self, parts: int, rows: float) -> int:
        """In how many parts work is dealt: so few rows are done before workers have started, unless they are asked for.

        Args:
            parts: Parts that the work can be dealt in.
            rows: Posts or training rows that it is about.
        """
        return parts if self.workers is not None or rows >= _WORTH_WORKERS else 1

    def on_gpus(self, gpus: int) -> bool:
        """Whether workers compute on GPUs, where there are so many."""
        return self.gpus_per_worker != 0 and gpus > 0

    def group_size(self, *, gpus: int, threads: int, most: int) -> int:
        """How many processes share a piece of work.

        Args:
            gpus: GPUs of this machine, or of the cluster.
            threads: Threads of this machine, or processors of the cluster.
            most: Parts that the work can be dealt in.

        Raises:
            UserError: If more GPUs are wanted than there are.
        """
        if self.gpus_per_worker == 1 and not gpus:
            raise UserError("cluster.gpus_per_worker is 1, and there is no GPU: set it to 0 or to null")
        if self.on_gpus(gpus):
            if self.workers is not None and self.workers > gpus:
                raise UserError(
                    f"cluster.workers is {self.workers}, and there are {gpus} GPUs: each worker needs one of its own"
                )
            wanted = self.workers or gpus
        else:
            wanted = self.workers or (max(1, threads // self.cpus_per_worker) if self.cpus_per_worker else 1)
        return max(1, min(wanted, most))

    def threads(self, size: int) -> int:
        """Threads of each of so many processes on this machine."""
        return self.cpus_per_worker or max(1, torch.get_num_threads() // size)
