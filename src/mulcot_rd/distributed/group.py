"""The processes that work together, as each of them sees them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


class PeerLostError(RuntimeError):
    """Another process of the group has ended: not the fault of the one that notices."""


@contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise PeerLostError(f"another process of the group has ended ({error})") from error


@dataclass(frozen=True)
class Group:
    """The processes of one launch. A group of one communicates with nobody.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes what only one may write."""
        return self.rank == 0

    def share(self, units: Sequence[T]) -> Sequence[T]:
        """This process's part of the units; the ranks take turns."""
        return units[self.rank :: self.size]

    def sum_(self, tensor: Tensor) -> None:
        """Replace the tensor by the sum over all processes.

        Raises:
            PeerLostError: Here and below, if another process has ended.
        """
        if self.size > 1:
            with _peers():
                dist.all_reduce(tensor)

    def gather(self, value: T) -> list[T]:
        """The value of each process, by rank. It must be small: it is pickled and sent to all."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with _peers():
            dist.all_gather_object(found, value)
        return found

    def broadcast(self, value: T) -> T:
        """The value of rank 0."""
        if self.size == 1:
            return value
        holder = [value]
        with _peers():
            dist.broadcast_object_list(holder, src=0)
        return holder[0]

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            # Not dist.barrier(), which with nccl would need a GPU's number.
            self.gather(None)


# A group of one.
ALONE = Group()
