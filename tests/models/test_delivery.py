"""The pipeline delivery: what `kedro export` writes, as a version in the run's folder."""

import shutil

import pytest
from kedro.io import Version

from mulcot_rd.datasets import AdapterDataset
from mulcot_rd.errors import UserError
from mulcot_rd.models.loaded import load_model
from mulcot_rd.pipelines.delivery.nodes import merge_student
from mulcot_rd.versions import newest

pytestmark = pytest.mark.parametrize("family_name", ["qwen3_vl"], indirect=True, scope="session")
RUN = {"dataset": "own", "run": "arch1", "arch": 1, "variant": "full", "teacher": "a teacher"}
METRICS = {
    "run": {**RUN, "aspects": False, "captions": None, "limit": None, "served": None},
    "dataset": {"train": 40, "dev": 8, "test": 12},
    "student": {"accuracy": 0.75},
}


@pytest.fixture
def adapter(student, tmp_path):
    """A student in a run's folder, as the catalog loads it."""
    shutil.copytree(student.parent, tmp_path / "run")
    return AdapterDataset(filepath=str(tmp_path / "run" / "student")).load()


def test_a_student_with_its_scores_becomes_a_version(adapter, tmp_path):
    config = {"student": {"fingerprint": adapter["fingerprint"]}}
    place = tmp_path / "run" / "student_merged"
    for version in ("2026-01-01", "2026-01-02"):
        dataset = AdapterDataset(filepath=str(place), version=Version(None, version))
        dataset.record = {"inputs": {}}
        dataset.save(merge_student(adapter, config, METRICS, tmp_path / "run"))
    # The second is equal.
    assert [path.name for path in place.iterdir() if path.name[0] != "."] == ["2026-01-01"]
    assert "| accuracy | 75.0 |" in (newest(place) / "README.md").read_text()
    assert load_model(place).backbone.family.name == "qwen3_vl"
    dataset = AdapterDataset(filepath=str(place), version=Version(None, "2026-01-03"))
    dataset.record = {"inputs": {}}
    scored = {**METRICS, "student": {"accuracy": 0.5}}
    dataset.save(merge_student(adapter, config, scored, tmp_path / "run"))
    assert "| accuracy | 50.0 |" in (place / "2026-01-03" / "student_merged" / "README.md").read_text()


def test_metrics_of_another_student_are_left_out(adapter, tmp_path):
    config = {"student": {"fingerprint": "another"}}
    assert merge_student(adapter, config, METRICS, tmp_path / "run")["evaluation"] is None


def test_there_is_nothing_to_deliver_where_no_student_is_trained(adapter, tmp_path):
    with pytest.raises(UserError, match="the variant trains no student"):
        merge_student({**adapter, "trained": False}, {}, METRICS, tmp_path)
