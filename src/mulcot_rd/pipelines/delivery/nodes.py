"""Nodes of the pipeline delivery."""

from pathlib import Path
from typing import Any

from mulcot_rd.errors import UserError
from mulcot_rd.files import empty_folder
from mulcot_rd.kept import Kept
from mulcot_rd.models.evaluation import evaluation_of
from mulcot_rd.models.export import export_model


def merge_student(
    student_adapter: dict[str, Any],
    config: dict[str, Any],
    metrics: dict[str, Any],
    models: Path,
    student_preference_adapter: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the student as a checkpoint that loads without this project, with its card, as ``kedro export`` does.

    It is the one after preference optimisation, where the variant has that.
    """
    last = student_preference_adapter
    adapter = last if last and last["trained"] else student_adapter
    if not adapter["trained"]:
        raise UserError("the variant trains no student, so there is none to deliver")
    out = empty_folder(Kept(models, "student_merged").result(adapter["fingerprint"]))
    evaluation = evaluation_of(adapter, config, metrics)
    manifest = export_model(Path(adapter["folder"]), out, evaluation=evaluation)
    return {**manifest, "folder": str(out)}
