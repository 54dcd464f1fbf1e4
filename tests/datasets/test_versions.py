"""Versions: equal content once, nothing half there, earlier layouts read on, any file system."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import ClassVar

import fsspec
import pandas as pd
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from kedro.io import DatasetError
from kedro.io.core import Version

from mulcot_rd.datasets import (
    AdapterDataset,
    JSONLinesDataset,
    PostsDataset,
    ReplacedJSONDataset,
    ReportTableDataset,
    RunFilesDataset,
)
from mulcot_rd.datasets.versioned import VersionedFiles
from mulcot_rd.errors import UserError
from mulcot_rd.kept import Kept
from mulcot_rd.reporting.writers import ReportTable
from mulcot_rd.schema import CaptionRecord
from mulcot_rd.versions import link_folder, newest
from tests.datasets.test_datasets import finished, posts_table


def caption(text: str) -> list[CaptionRecord]:
    return [CaptionRecord(image="a.jpg", caption=text, model="m", attempts=1)]


def table(accuracy: float) -> ReportTable:
    return ReportTable(pd.DataFrame({"accuracy": [accuracy]}), "A caption", "A note")


# Kind, further arguments, name of the path, two contents.
KINDS = {
    "JSON": (ReplacedJSONDataset, {}, "metrics.json", {"a": 1}, {"a": 2}),
    "JSONL": (
        JSONLinesDataset, {"record": "mulcot_rd.schema.CaptionRecord"}, "rows.jsonl", caption("one"), caption("two")
    ),
    "posts": (PostsDataset, {}, "posts.parquet", posts_table(2), posts_table(3)),
    "table": (ReportTableDataset, {}, "table_3", table(0.5), table(0.6)),
}  # fmt: skip


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


class ListingsKept(MemoryFileSystem):
    """A store that keeps listings, and after a change forgets that of the folder of the file alone, as adlfs does."""

    listings: ClassVar[dict[str, list]] = {}

    def ls(self, path, detail=True, **kwargs):
        folder = self._strip_protocol(path)
        if folder not in self.listings:
            self.listings[folder] = super().ls(folder, detail=True, **kwargs)
        return [entry if detail else entry["name"] for entry in self.listings[folder]]

    def pipe_file(self, path, value, **kwargs):
        super().pipe_file(path, value, **kwargs)
        self.listings.pop(self._parent(path), None)

    def invalidate_cache(self, path=None):
        self.listings.clear() if path is None else self.listings.pop(self._strip_protocol(path), None)


@pytest.fixture(params=["a folder", "memory", "s3", "abfs"])
def root(request, tmp_path) -> str:
    """A folder with brackets in its name, which are no pattern, and stores elsewhere."""
    if request.param == "abfs":
        fsspec.register_implementation("abfs", ListingsKept, clobber=True)
        return f"abfs://results/{tmp_path.name}"
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"
    return str(tmp_path / "a [b]") if request.param == "a folder" else f"memory:///{tmp_path.name}"


def opened(kind, root, load=None, save=None, **more):
    dataset, arguments, name, *_ = kind
    return dataset(filepath=f"{root}/{name}", version=Version(load, save), **arguments, **more)


def loaded(dataset) -> str:
    data = dataset.load()
    return data.to_json() if isinstance(data, pd.DataFrame) else repr(data)


def test_equal_content_makes_no_version_and_other_content_leaves_the_first_as_it_was(kind, root):
    *_, one, other = kind
    assert not opened(kind, root).exists()
    opened(kind, root, save="v1").save(one)
    first = loaded(opened(kind, root))
    opened(kind, root, save="v2").save(one)
    assert opened(kind, root).list_versions(full_path=False) == ["v1"]
    opened(kind, root, save="v3").save(other)
    assert opened(kind, root).list_versions(full_path=False) == ["v3", "v1"]
    assert loaded(opened(kind, root)) != first
    assert loaded(opened(kind, root, load="v1")) == first
    assert opened(kind, root).preview() != opened(kind, root, load="v1").preview()
    # The first content once more is the newest once more: what comes after it is made of it.
    opened(kind, root, save="v4").save(one)
    assert loaded(opened(kind, root)) == first


def test_what_a_run_saved_is_what_it_loads_whatever_others_save(kind, root):
    *_, one, other = kind
    mine = opened(kind, root, save="v1")
    mine.save(one)
    first = loaded(mine)
    opened(kind, root, save="v2").save(other)
    assert loaded(mine) == first
    mine.release()
    assert loaded(mine) != first


def test_what_is_saved_last_is_the_newest_whenever_its_run_began(kind, root):
    *_, one, other = kind
    opened(kind, root, save="2020-01-01T11.00.00.000Z").save(one)
    first = loaded(opened(kind, root))
    opened(kind, root, save="2020-01-01T10.00.00.000Z").save(other)
    assert loaded(opened(kind, root)) != first
    assert len(opened(kind, root).list_versions(full_path=False)) == 2


def test_what_is_saved_after_a_clock_was_ahead_is_the_newest(kind, root, caplog):
    *_, one, other = kind
    opened(kind, root, save="2099-12-31T23.59.59.999Z").save(one)
    first = loaded(opened(kind, root))
    opened(kind, root, save="2026-01-01T10.00.00.000Z").save(other)
    assert loaded(opened(kind, root)) != first
    assert opened(kind, root).list_versions(full_path=False)[0] == "2100-01-01T00.00.00.000Z"
    assert "clock was ahead" in caplog.text


def test_a_file_of_an_earlier_release_is_the_oldest_version(kind, root):
    dataset, arguments, name, one, other = kind
    dataset(filepath=f"{root}/{name}", **arguments).save(one)
    first = loaded(opened(kind, root))
    (oldest,) = opened(kind, root).list_versions(full_path=False)
    assert loaded(opened(kind, root, load=oldest)) == first
    opened(kind, root, save="9999").save(one)
    assert opened(kind, root).list_versions(full_path=False) == [oldest]
    opened(kind, root, save="9999").save(other)
    assert opened(kind, root).list_versions(full_path=False) == ["9999", oldest]
    assert loaded(opened(kind, root, load=oldest)) == first


@pytest.mark.parametrize("call", ["rm_file", "mv"])
def test_a_kill_while_an_earlier_file_moves_loses_nothing(tmp_path, monkeypatch, call):
    kind = KINDS["JSON"]
    ReplacedJSONDataset(filepath=str(tmp_path / "metrics.json")).save({"a": 1})
    with monkeypatch.context() as killed:
        killed.setattr(LocalFileSystem, call, lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            opened(kind, tmp_path, save="9999").save({"a": 2})
    assert opened(kind, tmp_path).load() == {"a": 1}
    opened(kind, tmp_path, save="9999").save({"a": 2})
    assert len(opened(kind, tmp_path).list_versions()) == 2


def test_a_save_that_ends_halfway_is_no_version(kind, root, monkeypatch):
    *_, one, other = kind
    opened(kind, root, save="v1").save(one)
    first = loaded(opened(kind, root))
    write, left = VersionedFiles._write_file, [1]

    def killed(self, path, data):
        # The record is written, and of several files the first.
        if not left or (path.endswith((".parquet", ".json", ".jsonl")) and "made_from" not in path):
            raise KeyboardInterrupt
        if "made_from" not in path:
            left.pop()
        write(self, path, data)

    with monkeypatch.context() as patch:
        patch.setattr(VersionedFiles, "_write_file", killed)
        dataset = opened(kind, root, save="v2")
        dataset.record = {"node": "n", "inputs": {}}
        with pytest.raises(KeyboardInterrupt):
            dataset.save(other)
    assert opened(kind, root).list_versions(full_path=False) == ["v1"]
    assert loaded(opened(kind, root)) == first
    opened(kind, root, save="v2").save(other)
    assert loaded(opened(kind, root)) != first


def test_without_versions_a_folder_of_versions_is_refused(root):
    path = f"{root}/metrics.json"
    ReplacedJSONDataset(filepath=path, version=Version(None, None)).save({"a": 1})
    for use in (lambda d: d.load(), lambda d: d.save({"a": 2})):
        with pytest.raises(DatasetError, match=r"metrics\.json is a folder of versions, and versions are off"):
            use(ReplacedJSONDataset(filepath=path))


def test_runs_that_save_equal_posts_at_once_make_one_version(tmp_path):
    together = Barrier(8)

    def save(number):
        dataset = PostsDataset(filepath=str(tmp_path / "posts.parquet"), version=Version(None, f"v{number}"))
        together.wait()
        dataset.save(posts_table(50))
        return len(dataset.load())

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(save, range(8))) == {150}
    assert len(list((tmp_path / "posts.parquet").iterdir())) == 1


def test_the_newest_table_lies_at_the_path_itself_too(tmp_path):
    kind = KINDS["table"]
    for version, accuracy in (("v1", 0.5), ("v2", 0.6)):
        opened(kind, tmp_path, save=version).save(table(accuracy))
        for ending in ("md", "csv", "tex"):
            text = (tmp_path / "table_3" / version / f"table_3.{ending}").read_text()
            assert (tmp_path / f"table_3.{ending}").read_text() == text
    (tmp_path / "table_3.md").unlink()
    opened(kind, tmp_path, save="v3").save(table(0.6))
    assert (tmp_path / "table_3.md").is_file()
    assert sorted(path.name for path in (tmp_path / "table_3").iterdir()) == ["v1", "v2"]


def test_a_version_says_what_it_was_made_from(tmp_path):
    dataset = opened(KINDS["JSON"], tmp_path, save="v1")
    dataset.record = {"node": "score_run", "inputs": {"posts": {"version": "v0"}}}
    dataset.save({"a": 1})
    assert dataset.read_record("v1") == {**dataset.record, "fingerprint": dataset.fingerprint()}
    assert opened(KINDS["JSON"], tmp_path).read_record("v9") == {}
    # Equal content of other inputs makes no version; the record says what it was last made from.
    again = opened(KINDS["JSON"], tmp_path, save="v2")
    again.record = {"node": "score_run", "inputs": {"posts": {"version": "v1"}}}
    again.save({"a": 1})
    assert again.list_versions(full_path=False) == ["v1"]
    assert again.read_record("v1")["inputs"] == {"posts": {"version": "v1"}}


@pytest.fixture
def adapter(tmp_path):
    """A function that opens the student's adapter."""

    def opened(load=None, save=None, root=tmp_path):
        return AdapterDataset(
            filepath=f"{root}/student", workspace={"path": str(tmp_path)}, version=Version(load, save)
        )

    return opened


def inode(manifest) -> tuple[int, int]:
    stat = Path(manifest["folder"], "adapter_model.safetensors").stat()
    return stat.st_ino, stat.st_size


def test_an_adapter_in_use_again_is_linked_not_copied(tmp_path, adapter):
    adapter(save="v1").save(finished(tmp_path, "1e-4"))
    first = adapter().load()
    adapter(save="v2").save(first)
    adapter(save="v3").save(finished(tmp_path, "3e-4"))
    again = Kept(tmp_path, "student").find(first["fingerprint"])
    adapter(save="v4").save(again)
    assert adapter().list_versions(full_path=False) == ["v4", "v3", "v1"]
    assert adapter().load() == {**first, "folder": str(tmp_path / "student" / "v4" / "student")}
    assert inode(adapter().load()) == inode(adapter(load="v1").load())
    # Of the work a copy of each manifest is left.
    assert not list((tmp_path / "work").rglob("*.safetensors"))


@pytest.mark.parametrize("students", [1, 2])
def test_ten_runs_keep_each_student_once(tmp_path, adapter, students):
    """Evaluated with other parameters each time, one student has one version; two in turn have one each run, linked."""
    trained = [finished(tmp_path, f"{number}e-4") for number in range(students)]
    for number in range(10):
        mark = trained[number % students]["fingerprint"]
        adapter(save=f"v{number}").save(Kept(tmp_path, "student").find(mark))
        opened(KINDS["JSONL"], tmp_path, save=f"v{number}").save(caption(f"answer {number}"))
    weights = [path.stat().st_ino for path in tmp_path.rglob("*.safetensors")]
    assert len(adapter().list_versions()) == len(weights) == (1 if students == 1 else 10)
    assert len(set(weights)) == students
    assert len(opened(KINDS["JSONL"], tmp_path).list_versions()) == 10


def test_where_nothing_can_be_linked_files_are_copied(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("weights")
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    link_folder(tmp_path / "a", tmp_path / "b" / "c")
    assert (tmp_path / "b" / "c" / "file").read_text() == "weights"


def test_an_adapter_of_an_earlier_release_is_the_oldest_version(tmp_path, adapter):
    first = finished(tmp_path, "1e-4")
    AdapterDataset(filepath=str(tmp_path / "student")).save(first)
    assert adapter().load() == {**first, "folder": str(tmp_path / "student")}
    (oldest,) = adapter().list_versions(full_path=False)
    adapter(save="9999").save(finished(tmp_path, "3e-4"))
    assert adapter(load=oldest).load()["fingerprint"] == first["fingerprint"]
    assert Kept(tmp_path, "student").find(first["fingerprint"]) is not None
    with pytest.raises(DatasetError, match="is a folder of versions, and versions are off"):
        AdapterDataset(filepath=str(tmp_path / "student")).save(first)


def test_a_kill_while_an_adapter_is_saved_leaves_the_one_in_use_and_the_finished_work(tmp_path, adapter, monkeypatch):
    adapter(save="v1").save(finished(tmp_path, "1e-4"))
    second = finished(tmp_path, "3e-4")
    with monkeypatch.context() as killed:
        killed.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            adapter(save="v2").save(second)
    assert adapter().list_versions(full_path=False) == ["v1"]
    assert newest(tmp_path / "student") == tmp_path / "student" / "v1" / "student"
    adapter(save="v2").save(Kept(tmp_path, "student").find(second["fingerprint"]))
    assert adapter().load()["fingerprint"] == second["fingerprint"]


def test_an_adapter_at_a_url_is_uploaded_and_loads_where_it_was_trained_and_elsewhere(tmp_path, adapter, bucket):
    url = f"{bucket}/{tmp_path.name}"
    first = finished(tmp_path, "1e-4")
    adapter(save="v1", root=url).save(first)
    assert adapter(root=url).load() == first
    adapter(save="v2", root=url).save(adapter(root=url).load())
    assert adapter(root=url).list_versions(full_path=False) == ["v1"]
    elsewhere = AdapterDataset(
        filepath=f"{url}/student", workspace={"path": str(tmp_path / "elsewhere")}, version=Version(None, None)
    )
    for _ in range(2):
        there = elsewhere.load()
        assert Path(there["folder"]).is_relative_to(tmp_path / "elsewhere")
        assert Path(there["folder"], "adapter_model.safetensors").read_text() == "1e-4"
    assert json.loads(elsewhere.preview())["fingerprint"] == first["fingerprint"]


def test_an_adapter_outside_of_its_workspace_needs_versions_and_a_folder_to_work_in(tmp_path):
    with pytest.raises(ValueError, match="needs versions"):
        AdapterDataset(filepath="memory:///x/student", workspace={"path": str(tmp_path)})
    with pytest.raises(UserError, match="must be in a folder"):
        AdapterDataset(filepath="memory:///x/student", version=Version(None, None))


def test_files_of_every_run_at_a_url_are_read_in_their_newest_version(tmp_path, bucket, adapter):
    url = f"{bucket}/{tmp_path.name}"
    metrics = f"{url}/sample/a-run/metrics.json"
    ReplacedJSONDataset(filepath=f"{url}/sample/earlier/metrics.json").save({"a": 0})
    for version in ("v1", "v2"):
        ReplacedJSONDataset(filepath=metrics, version=Version(None, version)).save({"a": version})
    first = finished(tmp_path, "1e-4")
    adapter(save="v1", root=f"{url}/sample/a-run").save(first)
    files = {"metrics.json": [""], "student": ["manifest.json", "adapter_model.safetensors"]}
    dataset = RunFilesDataset(filepath=url, files=files)
    folder = dataset.load()
    there = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    assert sorted(map(str, there)) == [
        "sample/a-run/metrics.json",
        "sample/a-run/student/adapter_model.safetensors",
        "sample/a-run/student/manifest.json",
        "sample/earlier/metrics.json",
    ]
    assert json.loads(there[Path("sample/a-run/metrics.json")].read_text()) == {"a": "v2"}
    assert RunFilesDataset(filepath=str(tmp_path / "new"), files=files).load() == tmp_path / "new"
