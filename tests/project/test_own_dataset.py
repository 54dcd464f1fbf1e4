"""A data set of the reader's own, made and run as docs/data.md says."""

import json
import re
import shutil

import pandas as pd
import pytest
import yaml

from tests.commands import ROOT
from tests.project.conftest import FAST, current, make_project, run

pytestmark = pytest.mark.slow

SECTION = "### From a file of yours to a finished run"
WHOLE = FAST.replace("limit=12,", "")
MOODS = {"positive": "happy", "neutral": "neither", "negative": "angry"}


def _steps(language: str) -> list[str]:
    """The code of the section, block by block."""
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    section = text.partition(SECTION)[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


@pytest.fixture(scope="module")
def cafe(tmp_path_factory):
    """A project whose run on fifty posts is finished, with columns and labels of their own and one image missing."""
    project = make_project(tmp_path_factory.mktemp("cafe") / "project")
    sample = project / "data/01_raw/sample"
    folder = project / "data/01_raw/cafe"
    (folder / "images").mkdir(parents=True)
    rows = pd.read_csv(sample / "posts.csv", dtype=str).head(50)
    for name in rows["image"].drop(index=17):
        shutil.copy(sample / "images" / name, folder / "images")
    own = pd.DataFrame(
        {
            "tweet_id": [str(1000 + number) for number in rows.index],
            "caption": rows["text"],
            "topic": rows["aspect"],
            "photo": rows["image"],
            "mood": rows["label"].map(MOODS),
            "likes": range(50),
        }
    )
    own.to_csv(folder / "my_posts.csv", index=False)

    (conversion,) = _steps("python")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        exec(compile(conversion, "docs/data.md", "exec"), {})
    result = run(project, "--params", f"dataset=cafe,{WHOLE}")
    assert result.returncode == 0, result.stderr[-4000:]
    assert "1 of 50 rows" in result.stderr + result.stdout
    assert "data expansion: kept 0 of " in result.stderr
    return project


def test_fifty_posts_with_columns_and_labels_of_their_own_and_one_image_missing(cafe):
    project = cafe
    rejected = pd.read_csv(project / "data/03_primary/cafe/rejected.csv", dtype=str)
    assert len(rejected) == 1
    assert rejected["reason"][0].startswith("image not found")
    posts = pd.read_parquet(current(project / "data/03_primary/cafe/posts.parquet"))
    assert len(posts) == 49
    assert set(posts["split"]) == {"train", "dev", "test"}
    assert posts["id"].min() == "1000"
    reports = project / "data/08_reporting/cafe/arch4-tiny-full"
    metrics = json.loads(current(reports / "metrics.json").read_text(encoding="utf-8"))
    assert 0 <= metrics["student"]["accuracy"] <= 1
    assert metrics["dataset"]["test"] == (posts["split"] == "test").sum()
    assert "cafe" in (project / "data/08_reporting/tables/table_4.md").read_text(encoding="utf-8")
    assert (reports / "quality_table.md").is_file()


def test_its_student_is_scored_on_the_labelled_posts_of_another(cafe):
    folder = cafe / "data/01_raw/bistro"
    shutil.copytree(cafe / "data/01_raw/sample/images", folder / "images")
    rows = pd.read_csv(cafe / "data/01_raw/sample/posts.csv", dtype=str).tail(6)
    # Test posts are all that it takes.
    rows.assign(split="test").to_csv(folder / "posts.csv", index=False)
    before = current(cafe / "data/06_models/cafe/arch4-tiny-full/temperatures.jsonl").read_bytes()
    params = f"dataset=bistro,run=from_cafe,student_run=cafe/arch4-tiny-full,{WHOLE}"
    result = run(cafe, "--pipelines", "data_preparation,evaluation,reporting", "--params", params)
    assert result.returncode == 0, result.stderr[-4000:]
    reports = cafe / "data/08_reporting/bistro/from_cafe"
    metrics = json.loads(current(reports / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["run"]["trained_on"] == "cafe (run arch4-tiny-full)"
    assert metrics["assistant"] is None
    assert "teacher" not in metrics
    student = metrics["student"]
    assert 0 <= student["accuracy"] <= 1
    # No teacher wrote of these posts.
    assert (student["reasoning_pairs"], student["sim"]) == (0, None)
    assert student["dist_1"] is not None
    tables = [pd.read_csv(cafe / f"data/08_reporting/{name}.csv") for name in ("tables/table_4", "tables/table_scores")]
    for table in (*tables, pd.read_csv(reports / "result_table.csv")):
        (source,) = set(table["source"][(table["run"] == "from_cafe") & (table["method"] == "student")])
        assert "trained on cafe (run arch4-tiny-full); taught by rules" in source
    # The temperature of its own data set is kept, and none is added.
    assert current(cafe / "data/06_models/cafe/arch4-tiny-full/temperatures.jsonl").read_bytes() == before
    assert not (cafe / "data/06_models/bistro/from_cafe/temperatures.jsonl").read_text()
    made = [
        yaml.safe_load(current(cafe / f"data/08_reporting/{run}/config.yml").read_text(encoding="utf-8"))
        for run in ("bistro/from_cafe", "cafe/arch4-tiny-full")
    ]
    assert all(made[0][name] == made[1][name] for name in ("teacher", "assistant", "student"))


def test_four_posts_of_one_class_without_a_word_leave_their_figures_empty_with_the_reason(project):
    folder = project / "data/01_raw/moods"
    (folder / "images").mkdir(parents=True)
    images = sorted((project / "data/01_raw/sample/images").iterdir())[:4]
    for image in images:
        shutil.copy(image, folder / "images")
    own = {"id": range(4), "split": ["train", "train", "dev", "test"], "text": "\U0001f600", "aspect": ""}
    pd.DataFrame({**own, "image": [image.name for image in images], "label": "positive"}).to_csv(
        folder / "posts.csv", index=False
    )
    result = run(project, "--params", f"dataset=moods,{WHOLE}")
    assert result.returncode == 0, result.stderr[-4000:]
    reason = "no training post holds a word"
    assert f"the baseline tfidf_logistic_regression is left empty: {reason}" in result.stderr + result.stdout
    table = pd.read_csv(project / "data/08_reporting/moods/arch4-tiny-full/result_table.csv").set_index("method")
    words = table.loc["TF-IDF + logistic regression"]
    assert words["source"] == f"not measured: {reason}"
    assert pd.isna(words["accuracy"])
    assert table.loc["majority class", "accuracy"] == 100
