"""A data set of the reader's own, made and run as docs/data.md says."""

import json
import re
import shutil

import pandas as pd

from tests.project.conftest import ROOT, SMALL, current, run

SECTION = "### From a file of yours to a finished run"
FAST = SMALL.replace("limit=12,", "").replace("epochs=2", "epochs=1")
MOODS = {"positive": "happy", "neutral": "neither", "negative": "angry"}


def _steps(language: str) -> list[str]:
    """The code of the section, block by block."""
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    section = text.partition(SECTION)[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def test_fifty_posts_with_columns_and_labels_of_their_own_and_one_image_missing(project, monkeypatch):
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

    monkeypatch.chdir(folder)
    (conversion,) = _steps("python")
    exec(compile(conversion, "docs/data.md", "exec"), {})
    result = run(project, "--params", f"dataset=cafe,{FAST}")

    assert result.returncode == 0, result.stderr[-4000:]
    assert "1 of 50 rows" in result.stderr + result.stdout
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
    result = run(project, "--params", f"dataset=moods,{FAST}")
    assert result.returncode == 0, result.stderr[-4000:]
    reason = "no training post holds a word"
    assert f"the baseline tfidf_logistic_regression is left empty: {reason}" in result.stderr + result.stdout
    table = pd.read_csv(project / "data/08_reporting/moods/arch4-tiny-full/result_table.csv").set_index("method")
    words = table.loc["TF-IDF + logistic regression"]
    assert words["source"] == f"not measured: {reason}"
    assert pd.isna(words["accuracy"])
    assert table.loc["majority class", "accuracy"] == 100
