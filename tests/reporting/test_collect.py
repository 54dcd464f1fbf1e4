import json

import pandas as pd
import pytest

from mulcot_rd.reporting.collect import collect_tables
from mulcot_rd.reporting.tables import MEASURED_TINY
from mulcot_rd.reporting.writers import write_table


@pytest.fixture
def add_run(tmp_path, scores):
    def add(dataset: str, run: str, /, scale: str = "tiny", **parts):
        info = {"dataset": dataset, "run": run, "arch": 4, "scale": scale, "variant": "full", "seed": 42}
        folder = tmp_path / dataset / run
        folder.mkdir(parents=True)
        metrics = {"run": info, "assistant": scores, "student": scores, **parts}
        (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        return folder / "metrics.json"

    return add


def test_every_run_lands_in_its_tables(tmp_path, add_run):
    add_run(
        "twitter2015",
        "arch4-tiny-full",
        references={"dist_1": 0.425, "dist_2": 0.729},
        expansion={"samples": 3179, "kept": 2000, "accuracy": 0.629, "weighted_f1": 0.6, "macro_f1": 0.5},
        dataset={"train": 3179, "dev": 1122, "test": 1037, "train_plus": 5179},
    )
    add_run("mvsa_single", "arch2-full-full", scale="full")
    add_run("mvsa_multiple", "arch2-full-full", scale="full")
    tables = collect_tables(tmp_path)
    assert list(tables) == ["table_1", "table_3", "table_4", "table_5", "table_8"]

    coarse = tables["table_3"].frame
    measured = coarse[coarse["source"] == "measured"]
    assert measured["method"].tolist() == ["assistant", "student"]
    assert measured[["mvsa_single accuracy", "mvsa_multiple weighted_f1"]].to_numpy().tolist() == [[61.23, 58.0]] * 2
    assert (coarse["source"] == "published").sum() == 8

    fine = tables["table_4"].frame
    tiny = fine[fine["source"] == MEASURED_TINY]
    assert tiny["run"].tolist() == ["arch4-tiny-full"] * 2
    assert tiny["twitter2015 macro_f1"].tolist() == [45.0] * 2
    assert tiny["twitter2017 accuracy"].isna().all()
    assert not any("sample" in column for column in fine.columns)

    reasoning = tables["table_5"].frame
    row = reasoning[(reasoning["dataset"] == "twitter2015") & (reasoning["method"] == "student")].iloc[0]
    assert (row["dist_1"], row["reference_dist_1"], row["bleu"]) == (44.0, 42.5, 30.0)

    sizes = tables["table_1"].frame
    assert sizes[sizes["run"] == "arch4-tiny-full"].iloc[0]["train_plus"] == 5179
    grown = tables["table_8"].frame
    expansion = grown[grown["run"] == "arch4-tiny-full"].iloc[0]
    assert (expansion["kept"], expansion["accuracy"]) == (2000, 62.9)


def test_a_users_own_data_set_gets_columns_of_its_own(tmp_path, add_run):
    add_run("my_posts", "arch4-tiny-full")
    table = collect_tables(tmp_path)["table_4"].frame
    assert table.iloc[-1]["my_posts accuracy"] == 61.23


def test_what_is_missing_is_an_empty_cell(tmp_path, add_run):
    add_run("sample", "arch4-tiny-no_cot", assistant={}, student={"accuracy": 0.5, "macro_f1": 0.4, "bleu": None})
    tables = collect_tables(tmp_path)
    assert tables["table_4"].frame.iloc[-1][["method", "sample accuracy"]].tolist() == ["student", 50.0]
    files = [
        file
        for name, table in tables.items()
        for file in write_table(table.frame, tmp_path / "tables", name, table.caption, table.note)
    ]
    assert len(files) == 15
    for file in files:
        text = file.read_text(encoding="utf-8").lower()
        assert "nan" not in text.replace("finance", "")
        assert "<na>" not in text
        assert "none" not in text
    assert pd.read_csv(tmp_path / "tables" / "table_8.csv")["samples"].tolist()[0] == 3608
    # The tables' own folder is no run of anything.
    assert collect_tables(tmp_path).keys() == tables.keys()


def test_nothing_on_disk(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the evaluation pipeline first"):
        collect_tables(tmp_path)


def test_a_broken_file_is_named(tmp_path, add_run):
    file = add_run("sample", "arch4-tiny-full", run={"dataset": "sample"})
    with pytest.raises(ValueError, match=r"metrics\.json: run\.run: Field required; run the evaluation pipeline"):
        collect_tables(tmp_path)
    file.write_text('{"run": ', encoding="utf-8")
    with pytest.raises(ValueError, match=r"metrics\.json: the file: Invalid JSON"):
        collect_tables(tmp_path)


def test_a_copied_run_is_not_counted_twice(tmp_path, add_run):
    file = add_run("sample", "arch4-tiny-full")
    copy = tmp_path / "sample" / "copy" / "metrics.json"
    copy.parent.mkdir()
    copy.write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match=r"copy.metrics\.json holds run arch4-tiny-full on sample"):
        collect_tables(tmp_path)
