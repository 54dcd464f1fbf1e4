"""What a run takes before it is started: parameters, memory, hours, disk, requests and money."""

from mulcot_rd.planning.cost_model import Device, Row, Utilisation
from mulcot_rd.planning.plan import DryRunParameters, Plan, Settings, Work, make_plan
from mulcot_rd.planning.report import report
from mulcot_rd.planning.shape import Shape, model_shape

__all__ = [
    "Device",
    "DryRunParameters",
    "Plan",
    "Row",
    "Settings",
    "Shape",
    "Utilisation",
    "Work",
    "make_plan",
    "model_shape",
    "report",
]
