"""What a run takes before it is started: parameters, memory, hours, disk, requests and money."""

from mulcot_rd.planning.plan import DryRunParameters, make_plan
from mulcot_rd.planning.report import report
from mulcot_rd.planning.shape import model_shape

__all__ = ["DryRunParameters", "make_plan", "model_shape", "report"]
