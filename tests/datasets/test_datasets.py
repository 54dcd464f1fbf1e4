"""Datasets: complete or absent, errors that name file and line, previews for kedro-viz."""

import inspect
import json

import pandas as pd
import pytest
from kedro.io import DatasetError

from mulcot_rd.datasets import (
    AdapterDataset,
    CredentialsDataset,
    JSONLinesDataset,
    PathDataset,
    ReportTableDataset,
    SoftLabelsDataset,
)
from mulcot_rd.frames import posts_from_frame, posts_to_frame
from mulcot_rd.reporting.writers import ReportTable
from mulcot_rd.training.soft_labels import NoSoftLabels


@pytest.fixture
def jsonl(tmp_path):
    return JSONLinesDataset(filepath=str(tmp_path / "a" / "rows.jsonl"), record="mulcot_rd.schema.TeacherRecord")


def test_records_come_back_as_they_were(jsonl, reasonings):
    assert not jsonl.exists()
    jsonl.save(reasonings)
    assert jsonl.load() == reasonings
    assert [row["id"] for row in json.loads(jsonl.preview(rows=2))] == ["p0", "p1"]


def test_a_bad_line_is_named(jsonl, reasonings, tmp_path):
    jsonl.save(reasonings)
    path = tmp_path / "a" / "rows.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for bad in ("{torn", '{"id": "x"}', lines[0].replace('"stage": 1', '"stage": 3')):
        path.write_text(lines[0] + bad + "\n", encoding="utf-8")
        with pytest.raises(DatasetError, match=r"line 2 of .*rows\.jsonl is not a TeacherRecord"):
            jsonl.load()


def test_an_adapter_is_there_once_its_manifest_is(tmp_path):
    dataset = AdapterDataset(filepath=str(tmp_path))
    with pytest.raises(DatasetError, match="adapter_model"):
        dataset.save({"role": "student", "trained": True})
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    (tmp_path / "work" / "checkpoint").mkdir(parents=True)
    (tmp_path / "work" / "history.jsonl").write_text("")
    assert not dataset.exists()
    dataset.save({"role": "student", "trained": True})
    assert dataset.exists()
    assert dataset.load() == {"role": "student", "trained": True, "folder": str(tmp_path)}
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["history.jsonl"]
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(DatasetError, match="delete the folder"):
        dataset.load()
    # A variant that trains nothing has no weights to promise.
    dataset.save({"role": "student", "trained": False})
    assert dataset.load()["trained"] is False


def test_soft_labels_that_a_variant_lacks_load_as_none(tmp_path):
    dataset = SoftLabelsDataset(filepath=str(tmp_path / "soft_labels"))
    assert not dataset.exists()
    dataset.save(NoSoftLabels("there is no assistant"))
    assert dataset.exists()
    assert dataset.load() is None


def test_a_path_is_made_and_never_saved(tmp_path):
    assert PathDataset(filepath=str(tmp_path / "folder")).load().is_dir()
    file = PathDataset(filepath=str(tmp_path / "x" / "ledger.jsonl"), folder=False).load()
    assert file.parent.is_dir()
    assert not file.exists()
    with pytest.raises(DatasetError, match="place to work in"):
        PathDataset(filepath=str(tmp_path)).save(tmp_path)


def test_a_report_table_is_four_files(tmp_path):
    dataset = ReportTableDataset(filepath=str(tmp_path / "table_3"))
    dataset.save(ReportTable(pd.DataFrame({"method": ["a"], "accuracy": [None]}), "A caption", "A note"))
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".html", ".md", ".tex"]
    assert dataset.load()["method"].tolist() == ["a"]
    assert dataset.preview()["data"] == [["a", ""]]


def test_credentials_are_shown_nowhere():
    dataset = CredentialsDataset(credentials={"api_key": "made-up"})
    assert dataset.load() == {"api_key": "made-up"}
    assert "made-up" not in f"{dataset} {dataset._describe()}"
    assert CredentialsDataset().load() == {}


@pytest.mark.parametrize(
    ("dataset", "kind"),
    [
        (JSONLinesDataset, "JSONPreview"),
        (AdapterDataset, "JSONPreview"),
        (SoftLabelsDataset, "JSONPreview"),
        (ReportTableDataset, "TablePreview"),
    ],
)
def test_kedro_viz_knows_what_a_preview_is(dataset, kind):
    assert inspect.signature(dataset.preview).return_annotation.__name__ == kind


def test_posts_survive_their_table(posts, tmp_path):
    bare = [post.model_copy(update={"caption": None}) for post in posts[:2]]
    mixed = [bare[0], bare[1].model_copy(update={"aspect": None, "split": "dev"})]
    posts_to_frame(mixed).to_parquet(tmp_path / "posts.parquet")
    frame = pd.read_parquet(tmp_path / "posts.parquet")
    assert posts_from_frame(frame) == mixed
    assert posts_from_frame(frame, "dev") == mixed[1:]
    frame.loc[1, "label"] = "mixed"
    with pytest.raises(ValueError, match="row 1"):
        posts_from_frame(frame)
