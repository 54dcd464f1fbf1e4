"""One piece of work in several processes: in this process, on this machine, or on a Ray cluster.

Every process runs the same function, :meth:`Job.run`, with its :class:`Group`. There is no process that others serve.
"""

from mulcot_rd.distributed.group import ALONE, Group
from mulcot_rd.distributed.job import Job
from mulcot_rd.distributed.launch import check_engine, launch
from mulcot_rd.distributed.parameters import ClusterParameters

__all__ = ["ALONE", "ClusterParameters", "Group", "Job", "check_engine", "launch"]
