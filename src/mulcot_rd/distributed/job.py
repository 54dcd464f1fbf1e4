"""A piece of work that any number of processes can share."""

from abc import ABC, abstractmethod
from typing import Any

from mulcot_rd.distributed.group import Group
from mulcot_rd.schema import Record


class Job(Record, ABC):
    """What every process of a group gets; it travels as JSON on disk.

    What a job keeps beside its fields (``cached_property``) does not travel.
    """

    @abstractmethod
    def run(self, group: Group) -> Any:
        """Do this process's part. What rank 0 returns is the result; it must be small."""
