"""Experiment plans: many runs by one command, each done once and done again when it is out of date."""

from mulcot_rd.experiments.execute import RunReport, as_table, execute
from mulcot_rd.experiments.plan import Plan, PlanError, PlannedRun, read_plan

__all__ = ["Plan", "PlanError", "PlannedRun", "RunReport", "as_table", "execute", "read_plan"]
