"""Blind sheets and their evaluation."""

import re

import pandas as pd
import pytest

from mulcot_rd.errors import UserError
from mulcot_rd.ratings import (
    CRITERIA,
    RatingError,
    cohen_kappa,
    evaluate_ratings,
    fleiss_kappa,
    make_sheet,
    write_sheet,
)
from mulcot_rd.ratings.evaluate import agreement_frame, scores_frame
from mulcot_rd.schema import Reasoning

# Fleiss (1971), as tabulated in the literature: 10 items, 14 raters, 5 categories, kappa 0.210.
FLEISS_COUNTS = (
    (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
)  # fmt: skip


def systems_of(posts):
    return {
        name: {
            post.id: Reasoning(
                text_analysis=f"{name} on text", image_analysis="i", conflict_resolution="c", final_conclusion="f",
                prediction=post.label,
            )
            for post in posts
        }
        for name in ("teacher", "student")
    }  # fmt: skip


@pytest.fixture
def sheet(posts, tmp_path):
    return write_sheet(*make_sheet(posts, systems_of(posts), posts_rated=4, seed=3), tmp_path)


def filled(paths, folder, rater, score=4, sentiment="positive"):
    rows = pd.read_csv(paths["sheet.csv"], dtype=str, keep_default_na=False)
    rows["sentiment"] = sentiment
    for number, criterion in enumerate(CRITERIA):
        rows[criterion] = [str(min(5, score + (index + number) % 2)) for index in range(len(rows))]
    path = folder / f"ratings_{rater}.csv"
    rows.to_csv(path, index=False)
    return path


def test_every_system_is_rated_on_the_same_posts_and_the_sheet_tells_nobody_who_wrote(posts):
    sheet, key = make_sheet(posts, systems_of(posts), posts_rated=4, seed=3)
    by_system = {system: set(rows["post_id"]) for system, rows in key.groupby("system")}
    assert by_system["teacher"] == by_system["student"]
    assert len(sheet) == len(key) == 8
    assert not {"system", "post_id", "prediction"} & set(sheet.columns)
    again, _ = make_sheet(posts, systems_of(posts), posts_rated=4, seed=3)
    assert again.equals(sheet)
    other, _ = make_sheet(posts, systems_of(posts), posts_rated=4, seed=4)
    assert not other.equals(sheet)
    # Neither system comes always first.
    assert len(set(key.groupby("post_id")["system"].first())) == 2


def test_posts_that_a_system_lacks_are_not_drawn(posts):
    systems = systems_of(posts)
    systems["student"] = {posts[0].id: systems["student"][posts[0].id]}
    _, key = make_sheet(posts, systems, posts_rated=4, seed=3)
    assert set(key["post_id"]) == {posts[0].id}
    with pytest.raises(UserError, match="run has no reasonings to rate: run the evaluation"):
        make_sheet(posts, {}, posts_rated=5, seed=0)
    with pytest.raises(UserError, match="each of teacher, student"):
        make_sheet(posts, {**systems, "student": {}}, posts_rated=4, seed=3)


def test_html_holds_the_images_and_escapes_the_posts(posts, tmp_path):
    hostile = posts[0].model_copy(update={"text": "<script>alert(1)</script>"})
    paths = write_sheet(*make_sheet([hostile], systems_of([hostile]), posts_rated=1, seed=1), tmp_path)
    html = paths["sheet.html"].read_text()
    assert html.count("data:image/jpeg;base64,") == 2
    assert "<script>alert(1)" not in html
    assert "teacher" not in html.replace("teacher on text", "")


def test_scores_and_agreement(sheet, tmp_path):
    same = [filled(sheet, tmp_path, rater) for rater in ("a", "b", "c")]
    result = evaluate_ratings(same, sheet["key.csv"], seed=1)
    assert result["items"] == 8
    assert set(result["systems"]) == {"student", "teacher"}
    for scores in result["systems"].values():
        low, high = scores["coherent"]["interval"]
        assert 4 <= low <= scores["coherent"]["mean"] <= high <= 5
    assert result["agreement"]["coherent"]["fleiss"] == pytest.approx(1)
    assert set(result["agreement"]["coherent"]["cohen"].values()) == {1.0}
    assert result["agreement"]["sentiment"]["fleiss"] is None
    assert list(scores_frame(result)["system"]) == ["student", "teacher"]
    assert len(agreement_frame(result)) == len(CRITERIA) + 1
    assert evaluate_ratings(same[:1], sheet["key.csv"], seed=1)["agreement"] == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.iloc[1:], "no row for item-001"),
        (lambda rows: rows.assign(coherent="6"), "item-001-[0-9a-f]{6}: coherent is '6'"),
        (lambda rows: rows.assign(sentiment=""), "item-001-[0-9a-f]{6}: sentiment is ''"),
        (lambda rows: rows.drop(columns="convincing"), "column convincing missing in line 1"),
        (lambda rows: pd.concat([rows, rows.iloc[:1]]), r"line \d+: item-001-[0-9a-f]{6} stands there twice"),
    ],
)
def test_a_sheet_that_cant_be_used_is_named_with_row_and_cure(sheet, tmp_path, change, said):
    path = filled(sheet, tmp_path, "a")
    change(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)
    with pytest.raises(RatingError, match=said) as error:
        evaluate_ratings([path], sheet["key.csv"], seed=1)
    assert str(path) in str(error.value)


def test_a_sheet_that_excel_saved_is_read(sheet, tmp_path):
    path = filled(sheet, tmp_path, "a")
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    wanted = evaluate_ratings([path], sheet["key.csv"], seed=1)
    rows.to_csv(path, index=False, sep=";", encoding="utf-8-sig")
    assert evaluate_ratings([path], sheet["key.csv"], seed=1) == wanted
    rows.assign(text="caf\u00e9").to_csv(path, index=False, encoding="cp1252")
    with pytest.raises(RatingError, match=r"line 2 is not UTF-8 \(byte 0xe9\): save it as UTF-8"):
        evaluate_ratings([path], sheet["key.csv"], seed=1)
    path.write_text("")
    with pytest.raises(RatingError, match="has no header"):
        evaluate_ratings([path], sheet["key.csv"], seed=1)


def test_a_sheet_is_scored_by_its_own_key_alone(sheet, posts, tmp_path):
    first = filled(sheet, tmp_path, "a")
    # Made again, it stays as it is, with what may have been filled in.
    sheet["sheet.csv"].write_text(first.read_text())
    write_sheet(*make_sheet(posts, systems_of(posts), posts_rated=4, seed=3), tmp_path)
    assert sheet["sheet.csv"].read_text() == first.read_text()
    other = make_sheet(posts, systems_of(posts), posts_rated=2, seed=3)
    with pytest.raises(UserError, match=r"key\.csv is the key of another sheet, which raters may have: move .* away"):
        write_sheet(*other, tmp_path)
    key = write_sheet(*other, tmp_path / "other")["key.csv"]
    with pytest.raises(RatingError, match=r"rates item-.*, which is not in"):
        evaluate_ratings([first], key, seed=1)


def test_fleiss_kappa_of_the_published_example():
    raters = [[] for _ in range(14)]
    for counts in FLEISS_COUNTS:
        votes = [category for category, count in enumerate(counts) for _ in range(count)]
        for rater, vote in zip(raters, votes, strict=True):
            rater.append(vote)
    assert fleiss_kappa(raters, range(5)) == pytest.approx(0.210, abs=5e-4)


def test_cohen_kappa_of_the_textbook_example():
    # 20 both yes, 15 both no, 5 and 10 split: kappa 0.4.
    first = ["y"] * 25 + ["n"] * 25
    second = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert cohen_kappa(first, second, ("y", "n")) == pytest.approx(0.4)
    assert cohen_kappa(["1", "5"], ["2", "4"], tuple("12345"), ordinal=True) == pytest.approx(0.8)
    assert cohen_kappa(["y"], ["y"], ("y", "n")) is None


def test_a_browser_keeps_the_ratings_of_two_sheets_apart(posts, tmp_path):
    """Sheets of two runs hold the same posts in the same order; only what was written of them differs."""
    pages = []
    for word in ("one", "two"):
        systems = systems_of(posts)
        systems["student"] = {
            key: r.model_copy(update={"text_analysis": word}) for key, r in systems["student"].items()
        }
        paths = write_sheet(*make_sheet(posts, systems, posts_rated=4, seed=3), tmp_path / word)
        pages.append(re.search(r'const store = "ratings:" \+ "(\w+)"', paths["sheet.html"].read_text())[1])
    assert pages[0] != pages[1]


def test_a_section_that_was_not_written_is_said_to_be_missing(posts):
    systems = {"student": {posts[0].id: Reasoning(text_analysis="t", prediction=None)}}
    sheet, _ = make_sheet(posts, systems, posts_rated=1, seed=1)
    assert "Image analysis: (not written)" in sheet["reasoning"][0]
    assert sheet["reasoning"][0].endswith("Verdict: none")
