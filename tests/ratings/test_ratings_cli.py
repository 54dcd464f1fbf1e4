"""`kedro ratings`: a sheet of a finished run, and what filled sheets come to."""

import re
import shutil

import pandas as pd
import pytest
from tests.commands import kedro
from tests.project.conftest import make_project

from mulcot_rd.datasets import JSONLinesDataset
from mulcot_rd.frames import posts_to_frame
from mulcot_rd.ratings import CRITERIA
from mulcot_rd.schema import Post, PredictionRecord, Sentiment, TeacherRecord

pytestmark = pytest.mark.slow

SECTIONS = ("text_analysis", "image_analysis", "conflict_resolution", "final_conclusion")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project in which teacher and student have answered three test posts, and the assistant wrote labels alone."""
    folder = make_project(tmp_path_factory.mktemp("ratings") / "project")
    images = sorted((folder / "data/01_raw/sample/images").glob("test-*.jpg"))[:3]
    posts = [
        Post(id=path.stem, split="test", text=f"day {path.stem}", aspect="day", label=Sentiment.POSITIVE,
             image=str(path.relative_to(folder)))
        for path in images
    ]  # fmt: skip
    table = folder / "data/03_primary/sample/posts.parquet"
    table.parent.mkdir(parents=True)
    posts_to_frame(posts).to_parquet(table, index=False)
    written = dict.fromkeys(SECTIONS, "It says so.")
    teacher = [
        TeacherRecord(
            **written, prediction=post.label, id=post.id, stage=1, label=post.label, attempts=1, model="rules"
        )
        for post in posts
    ]
    student = [
        PredictionRecord(
            **written, id=post.id, label=post.label, prediction=post.label, reasoning_prediction=None,
            raw_text="", raw_label_text="", attempts=1, label_attempts=1,
        )
        for post in posts
    ]  # fmt: skip
    labels_alone = [record.model_copy(update={"attempts": 0, **dict.fromkeys(SECTIONS, "")}) for record in student]
    run = "sample/arch4-tiny-full"
    for path, rows in (
        (f"data/05_model_input/{run}/teacher_references.jsonl", teacher),
        (f"data/07_model_output/{run}/assistant_test.jsonl", labels_alone),
        (f"data/07_model_output/{run}/student_test.jsonl", student),
    ):
        record = "TeacherRecord" if "teacher" in path else "PredictionRecord"
        JSONLinesDataset(filepath=str(folder / path), record=f"mulcot_rd.schema.{record}").save(rows)
    return folder


def test_a_sheet_is_made_handed_out_and_scored(project):
    made = kedro(project, "ratings", "sheet", "--posts", "2")
    assert made.returncode == 0, made.stderr[-2000:]
    folder = project / "data/08_reporting/sample/arch4-tiny-full/ratings"
    assert {path.name for path in folder.iterdir()} == {"sheet.csv", "sheet.html", "key.csv"}
    key = pd.read_csv(folder / "key.csv", dtype=str)
    # The assistant gave no reasons, so two systems are rated on two posts.
    assert sorted(key["system"]) == ["student", "student", "teacher", "teacher"]

    sheets = []
    for rater, score in (("ada", 4), ("bob", 5)):
        rows = pd.read_csv(folder / "sheet.csv", dtype=str, keep_default_na=False)
        rows = rows.assign(sentiment="positive", **dict.fromkeys(CRITERIA, str(score)))
        sheets.append(project / f"ratings_{rater}.csv")
        rows.to_csv(sheets[-1], index=False)
    scored = kedro(project, "ratings", "score", *map(str, sheets))
    assert scored.returncode == 0, scored.stderr[-2000:]
    assert "| teacher | 2 | 4.50 [4.50, 4.50] |" in scored.stdout
    assert "fleiss_kappa" in scored.stdout
    assert (folder / "ratings.json").is_file()
    assert (folder / "ratings.md").read_text(encoding="utf-8").strip() in scored.stdout


def test_a_sheet_that_is_not_filled_in_is_one_sentence(project):
    kedro(project, "ratings", "sheet", "--posts", "2")
    sheet = project / "data/08_reporting/sample/arch4-tiny-full/ratings/sheet.csv"
    refused = kedro(project, "ratings", "score", str(sheet))
    assert refused.returncode != 0
    assert "Error: " in refused.stderr
    assert re.search("item-001-[0-9a-f]{6}: sentiment is ''", refused.stderr)
    assert "Traceback" not in refused.stderr


def test_a_run_without_references_has_a_sheet_of_its_models(project):
    """As where the student of another run is scored."""
    shutil.copytree(
        project / "data/07_model_output/sample/arch4-tiny-full", project / "data/07_model_output/sample/elsewhere"
    )
    made = kedro(project, "ratings", "sheet", "--params", "run=elsewhere")
    assert made.returncode == 0, made.stderr
    (key,) = (project / "data").glob("08_reporting/sample/elsewhere/**/key.csv")
    assert set(pd.read_csv(key)["system"]) == {"student"}
