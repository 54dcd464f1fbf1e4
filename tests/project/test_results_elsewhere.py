"""Results in a store of objects, work in a folder."""

import boto3
import pytest

from mulcot_rd.datasets import ReplacedJSONDataset, ReportTableDataset
from tests.datasets.conftest import bucket  # noqa: F401 - a fixture

pytestmark = pytest.mark.slow


def test_a_run_whose_results_are_on_s3_keeps_its_work_here_and_makes_no_second_version(project, kedro, bucket):  # noqa: F811
    root = f"{bucket}/elsewhere"
    stages = "data_preparation,teacher_annotation,reporting"
    for _ in range(2):
        result = kedro("run", "--pipelines", stages, "--params", f"limit=6,results_root={root}")
        assert result.returncode == 0, result.stderr[-3000:]
    there = [
        entry["Key"] for entry in boto3.client("s3").list_objects_v2(Bucket="results", Prefix="elsewhere/")["Contents"]
    ]
    kept = [key for key in there if key.endswith(("Z/posts.parquet", "Z/teacher_reasoning.jsonl", "Z/table_1.csv"))]
    assert len(kept) == 3
    assert len(ReportTableDataset(filepath=f"{root}/08_reporting/tables/table_3").load()) > 5
    summary = ReplacedJSONDataset(filepath=f"{root}/08_reporting/sample/arch4-tiny-full/teacher_summary.json").load()
    assert summary["posts"] == 6
    here = {path.name for path in (project / "data").rglob("*") if path.is_file() and "01_raw" not in path.parts}
    assert not {name for name in here if name.endswith((".parquet", ".md", ".csv", ".png"))}
