"""Datasets: complete or absent, errors that name file and line, previews for kedro-viz."""

import base64
import doctest
import importlib
import inspect
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pandas as pd
import pytest
from kedro.io import AbstractDataset, DatasetError
from matplotlib.figure import Figure

from mulcot_rd import datasets
from mulcot_rd.datasets import (
    AdapterDataset,
    CredentialsDataset,
    FigureDataset,
    JSONLinesDataset,
    PathDataset,
    PostsDataset,
    ReplacedCSVDataset,
    ReplacedJSONDataset,
    ReplacedTextDataset,
    ReportTableDataset,
    SoftLabelsDataset,
)
from mulcot_rd.errors import UserError
from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.frames import posts_from_frame, posts_to_frame
from mulcot_rd.kept import DamagedError, Kept, file_hashes, write_manifest
from mulcot_rd.reporting.writers import ReportTable
from mulcot_rd.schema import CaptionRecord, Post, Sentiment
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


def finished(run, weights, name="student"):
    """A finished training in the run's work, as training leaves it, and its manifest."""
    made_from = {"training": {"learning_rate": weights}}
    kept = Kept(run, name)
    mark = fingerprint(made_from)
    kept.begin(mark, made_from)
    result = kept.result(mark)
    result.mkdir(parents=True)
    (result / "adapter_model.safetensors").write_text(weights)
    files = file_hashes(result)
    manifest = {"role": name, "trained": True, "fingerprint": mark, "made_from": made_from, "files": files}
    write_manifest(result, manifest)
    return {**manifest, "folder": str(result)}


def test_an_adapter_is_there_once_it_is_put_in_use(tmp_path):
    dataset = AdapterDataset(filepath=str(tmp_path / "student"))
    manifest = finished(tmp_path, "1e-4")
    assert not dataset.exists()
    dataset.save(manifest)
    assert dataset.exists()
    assert dataset.load() == {**manifest, "folder": str(tmp_path / "student")}
    # Saved again it stays as it is; of the work only a copy of the manifest is left.
    dataset.save(dataset.load())
    assert [path.name for path in Kept(tmp_path, "student").work(manifest["fingerprint"]).iterdir()] == [
        "manifest.json"
    ]
    (tmp_path / "student" / "adapter_model.safetensors").unlink()
    assert not dataset.exists()
    with pytest.raises(DatasetError, match=r"adapter_model\.safetensors is missing"):
        dataset.load()
    with pytest.raises(DatasetError, match="not finished"):
        dataset.save({**manifest, "folder": str(tmp_path / "nothing")})


def test_an_adapter_that_is_replaced_is_kept_and_found_again(tmp_path, caplog):
    dataset, kept = AdapterDataset(filepath=str(tmp_path / "student")), Kept(tmp_path, "student")
    first = finished(tmp_path, "1e-4")
    dataset.save(first)
    with caplog.at_level("INFO"):
        second = finished(tmp_path, "3e-4")
    assert "training.learning_rate: 1e-4 -> 3e-4" in caplog.text
    # Until the new one is finished and saved, the old one is the one in use.
    assert dataset.load()["fingerprint"] == first["fingerprint"]
    dataset.save(second)
    assert dataset.load()["fingerprint"] == second["fingerprint"]
    found = kept.find(first["fingerprint"])
    assert Path(found["folder"], "adapter_model.safetensors").read_text() == "1e-4"
    dataset.save(found)
    assert dataset.load()["fingerprint"] == first["fingerprint"]
    assert kept.find(second["fingerprint"]) is not None
    # A variant that trains nothing replaces one that was trained, and deletes none.
    untrained = {"role": "student", "trained": False, "fingerprint": "none", "files": {}}
    dataset.save(untrained)
    assert dataset.load()["trained"] is False
    assert kept.find(first["fingerprint"]) is not None


def test_a_kill_between_the_renames_loses_nothing(tmp_path, monkeypatch):
    dataset, kept = AdapterDataset(filepath=str(tmp_path / "student")), Kept(tmp_path, "student")
    first = finished(tmp_path, "1e-4")
    dataset.save(first)
    second = finished(tmp_path, "3e-4")
    kept.set_aside()
    assert not dataset.exists()
    for wanted in (second, first):
        dataset.save(kept.find(wanted["fingerprint"]))
        assert dataset.load()["fingerprint"] == wanted["fingerprint"]


def test_a_manifest_that_was_deleted_beside_intact_files_is_written_again(tmp_path):
    dataset, kept = AdapterDataset(filepath=str(tmp_path / "student")), Kept(tmp_path, "student")
    manifest = finished(tmp_path, "1e-4")
    dataset.save(manifest)
    (tmp_path / "student" / "manifest.json").unlink()
    dataset.save(kept.find(manifest["fingerprint"]))
    assert dataset.load()["fingerprint"] == manifest["fingerprint"]
    (tmp_path / "student" / "manifest.json").unlink()
    (tmp_path / "student" / "adapter_model.safetensors").write_text("other weights")
    assert kept.find(manifest["fingerprint"]) is None


@pytest.mark.parametrize("place", ["student", "earlier"])
def test_a_manifest_that_was_changed_is_refused_and_once_deleted_written_again(tmp_path, place):
    dataset, kept = AdapterDataset(filepath=str(tmp_path / "student")), Kept(tmp_path, "student")
    manifest = finished(tmp_path, "1e-4")
    dataset.save(manifest)
    path = tmp_path / "student" / "manifest.json"
    if place == "earlier":
        dataset.save(finished(tmp_path, "3e-4"))
        (path,) = (tmp_path / "earlier").glob("*/manifest.json")
    path.write_text(path.read_text().replace("learning_rate", "learning_rste"))
    with pytest.raises(DamagedError, match=r"manifest\.json is not what was written: delete it"):
        kept.find(manifest["fingerprint"])
    path.unlink()
    assert kept.find(manifest["fingerprint"]) == {**manifest, "folder": str(path.parent)}


def test_soft_labels_of_earlier_versions_are_not_there(tmp_path):
    (tmp_path / "soft_labels").mkdir()
    (tmp_path / "soft_labels" / "manifest.json").write_text('{"fingerprint": "of 0.1", "rows": 3}')
    assert not SoftLabelsDataset(filepath=str(tmp_path / "soft_labels")).exists()


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


@pytest.mark.parametrize("kind", [PathDataset, SoftLabelsDataset])
def test_what_processes_share_is_refused_at_a_url(kind):
    with pytest.raises(UserError, match=r"s3://bucket/work: .* must be in a folder .*: correct data_root"):
        kind(filepath="s3://bucket/work")


def test_a_report_table_is_four_files(tmp_path):
    dataset = ReportTableDataset(filepath=str(tmp_path / "table_3"))
    frame = pd.DataFrame({"method": ["a"], "accuracy": [None], "seconds": [1 / 3]})
    dataset.save(ReportTable(frame, "A caption", "A note"))
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".md", ".tex"]
    assert dataset.load()["method"].tolist() == ["a"]
    assert dataset.preview()["data"] == [["a", "", 0.33333]]


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
        (PostsDataset, "TablePreview"),
    ],
)
def test_kedro_viz_knows_what_a_preview_is(dataset, kind):
    assert inspect.signature(dataset.preview).return_annotation.__name__ == kind


@pytest.mark.parametrize("name", sorted(path.stem for path in Path(datasets.__file__).parent.glob("[a-z]*.py")))
def test_examples_do_what_they_show(name, tmp_path):
    module = importlib.import_module(f"mulcot_rd.datasets.{name}")
    result = doctest.testmod(module, extraglobs={"tmp_path": tmp_path})
    assert not result.failed
    own = [kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == module.__name__]
    if any(issubclass(kind, AbstractDataset) for kind in own) and name != "versioned":
        assert result.attempted


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


def posts_table(per_split: int) -> pd.DataFrame:
    return posts_to_frame(
        [
            Post(id=f"{split}-{n}", split=split, text=f"day {n}", aspect=None, image="a.jpg", label=Sentiment.NEUTRAL)
            for split in ("train", "dev", "test")
            for n in range(per_split)
        ]
    )


def test_a_limit_cuts_what_a_run_loads_and_never_the_file(tmp_path):
    path = str(tmp_path / "posts.parquet")
    whole = posts_table(5)
    PostsDataset(filepath=path, limit=2).save(whole)
    few = PostsDataset(filepath=path, limit=2).load()
    assert few["id"].tolist() == ["train-0", "train-1", "dev-0", "dev-1", "test-0", "test-1"]
    pd.testing.assert_frame_equal(few, posts_table(2))
    for limit in (None, 5, 9):
        pd.testing.assert_frame_equal(PostsDataset(filepath=path, limit=limit).load(), whole)


def test_posts_are_written_only_if_they_changed(tmp_path):
    path = tmp_path / "posts.parquet"
    dataset = PostsDataset(filepath=str(path), limit=2)
    dataset.save(posts_table(5))
    before = path.stat()
    dataset.save(posts_table(5))
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    dataset.save(posts_table(6))
    assert len(PostsDataset(filepath=str(path)).load()) == 18
    # What an earlier version's two runs at once left behind is mended, not read.
    path.write_bytes(path.read_bytes()[:-9])
    dataset.save(posts_table(6))
    assert len(PostsDataset(filepath=str(path)).load()) == 18


class TornError(RuntimeError):
    """What ends a save in its middle."""


class TornFrame(pd.DataFrame):
    def to_csv(self, path_or_buf, **_):
        path_or_buf.write("half of a ta")
        raise TornError

    def to_parquet(self, path, **_):
        if not hasattr(path, "getvalue"):
            path.write(b"half of a ta")
            raise TornError


class TornFigure(Figure):
    def savefig(self, stream, **_):
        stream.write(b"half of a pic")
        raise TornError


@pytest.mark.parametrize(
    ("kind", "data", "torn"),
    [
        (ReplacedJSONDataset, {"a": 1}, {"a": [1, object()]}),
        (ReplacedTextDataset, "a report", "half\ud800"),
        (ReplacedCSVDataset, pd.DataFrame({"a": [1]}), TornFrame({"a": [2]})),
        (PostsDataset, posts_table(2), TornFrame(posts_table(3))),
    ],
)
def test_a_save_that_ends_halfway_leaves_the_file_as_it_was(tmp_path, kind, data, torn):
    path = tmp_path / "out" / "file"
    kind(filepath=str(path)).save(data)
    whole = path.read_bytes()
    with pytest.raises(DatasetError):
        kind(filepath=str(path)).save(torn)
    assert path.read_bytes() == whole
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_a_figure_is_a_picture_and_vectors_and_a_save_that_ends_halfway_leaves_both(tmp_path):
    dataset = FigureDataset(filepath=tmp_path / "figure")
    dataset.save(_figure(1))
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(whole) == ["figure.png", "figure.svg"]
    assert base64.b64decode(dataset.preview()) == dataset.load() == whole["figure.png"]
    with pytest.raises(DatasetError):
        dataset.save(TornFigure())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == whole


def test_equal_figures_are_equal_files(tmp_path):
    for name, number in (("one", 1), ("same", 1), ("other", 2)):
        FigureDataset(filepath=tmp_path / name).save(_figure(number))
    for ending in ("png", "svg"):
        one, same, other = ((tmp_path / f"{name}.{ending}").read_bytes() for name in ("one", "same", "other"))
        assert one == same != other


def _figure(number: int) -> Figure:
    figure = Figure()
    figure.subplots().plot([0, number], label="a line")
    figure.legend()
    return figure


def test_two_writers_of_one_file_never_mix(tmp_path):
    tables = {4: posts_table(4), 900: posts_table(900)}
    path = str(tmp_path / "posts.parquet")
    together = Barrier(8)

    def write_and_read(number):
        together.wait()
        PostsDataset(filepath=path).save(tables[4 if number % 2 else 900])
        return len(PostsDataset(filepath=path).load())

    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert set(pool.map(write_and_read, range(8))) <= {12, 2700}
    assert [file.name for file in tmp_path.iterdir()] == ["posts.parquet"]


def test_runs_that_add_captions_at_once_lose_none(tmp_path):
    path = str(tmp_path / "captions.jsonl")
    together = Barrier(8)

    def add(number):
        dataset = JSONLinesDataset(filepath=path, record="mulcot_rd.schema.CaptionRecord", merge_by="image")
        together.wait()
        for image in (f"{number}-a", f"{number}-b", "shared"):
            dataset.save([CaptionRecord(image=image, caption=f"by {number}", model="m", attempts=1)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    rows = JSONLinesDataset(filepath=path, record="mulcot_rd.schema.CaptionRecord").load()
    assert len(rows) == 17
    assert {row.image for row in rows} == {"shared", *(f"{number}-{letter}" for number in range(8) for letter in "ab")}
