"""Nodes of the pipeline delivery."""

from pathlib import Path
from typing import Any

from mulcot_rd.errors import UserError
from mulcot_rd.files import empty_folder
from mulcot_rd.kept import Kept
from mulcot_rd.models.evaluation import evaluation_of
from mulcot_rd.models.export import export_model


def merge_student(
    student_adapter: dict[str, Any], config: dict[str, Any], metrics: dict[str, Any], models: Path
) -> dict[str, Any]:
    """Write the student as a checkpoint that loads without this project, with its card, as ``kedro export`` does."""
    if not student_adapter["trained"]:
        raise UserError("the variant trains no student, so there is none to deliver")
    out = empty_folder(Kept(models, "student_merged").result(student_adapter["fingerprint"]))
    evaluation = evaluation_of(student_adapter, config, metrics)
    manifest = export_model(Path(student_adapter["folder"]), out, evaluation=evaluation)
    return {**manifest, "folder": str(out)}
