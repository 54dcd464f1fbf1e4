"""What the notebooks show."""

import pandas as pd
import pytest

from mulcot_rd.reporting.display import (
    UNREADABLE,
    answers_frame,
    differing,
    disagreements,
    page,
    post_cards,
    side_by_side,
    table,
)
from mulcot_rd.schema import Sentiment


@pytest.fixture
def systems(posts, make_teacher, make_prediction):
    """The teacher is right; the student's label prompt is right but once, its reasonings come to nothing."""
    wrong = next(label for label in Sentiment if label != posts[0].label)
    student = [make_prediction(post, post.label, reasoning_prediction=None) for post in posts]
    student[0] = make_prediction(posts[0], wrong, reasoning_prediction=None)
    return {"teacher": [make_teacher(post, post.label, stage=2) for post in posts[1:]], "student": student}


def test_each_system_has_its_column_under_the_post_and_its_image(posts, systems):
    html = side_by_side(posts[:2], {**systems, "assistant": []}).text
    assert html.count("data:image/jpeg;base64,") == 2
    assert html.count("<h4>teacher</h4>") == html.count("<h4>student</h4>") == 2
    assert "assistant" not in html
    assert "wrote nothing of this post" in html
    assert "was told the label" in html
    assert UNREADABLE in html
    assert post_cards(posts[:1])._repr_html_().count("<h4>") == 0


def test_a_page_needs_nothing_else(posts):
    shown = page("a run: <measured>", post_cards(posts[:1]))
    assert shown.startswith("<!DOCTYPE html>")
    assert '<h1 style="font-size: 1.2em">a run: &lt;measured&gt;</h1>' in shown
    assert "data:image/jpeg;base64," in shown
    assert "http" not in shown


def test_posts_and_reasonings_are_escaped(posts, make_prediction):
    post = posts[0].model_copy(update={"text": "<script>alert('post')</script>"})
    answer = make_prediction(post, post.label, text_analysis="<img src=x onerror=alert(1)>")
    html = side_by_side([post], {"student": [answer]}).text
    assert "<script" not in html
    assert "<img src=x" not in html
    assert "&lt;script&gt;" in html


def test_answers_and_disagreements(posts, systems):
    answers = answers_frame(posts, systems)
    assert list(answers.columns) == [
        "text", "aspect", "gold", "teacher", "student, label prompt", "student, reasoning",
    ]  # fmt: skip
    assert pd.isna(answers.loc[posts[0].id, "teacher"])
    assert set(answers["student, reasoning"]) == {UNREADABLE}
    assert list(differing(answers, "gold", "student, label prompt").index) == [posts[0].id]
    assert differing(answers, "gold", "nobody, label prompt").empty
    counts = disagreements(answers)
    assert counts.loc["gold", "teacher"] == 0
    assert counts.loc["gold", "student, label prompt"] == counts.loc["student, label prompt", "gold"] == 1
    # The post that the teacher has no label for is not counted.
    assert counts.loc["teacher", "student, reasoning"] == len(posts) - 1


def test_a_prompt_that_was_not_asked_has_no_column(posts, make_prediction):
    answers = answers_frame(posts, {"student": [make_prediction(post, post.label, attempts=0) for post in posts]})
    assert list(answers.columns)[3:] == ["student, label prompt"]


def test_a_table_marks_the_best_two_scores_and_leaves_missing_cells_empty():
    frame = pd.DataFrame(
        {"method": ["<a>", "b", "c"], "accuracy": [70.0, 80.0, None], "none": [None] * 3, "p": [0.01234, None, 1.0]}
    )
    shown = table(frame, {"p": (4, 4)}).text
    assert "<strong>80.0</strong>" in shown
    assert "<u>70.0</u>" in shown
    assert "0.0123" in shown
    assert "&lt;a&gt;" in shown
    assert not [words for words in (">nan<", ">None<", ">none<") if words in shown]
    assert "<strong>" not in table(frame, compared=False).text
    assert "Nothing to show" in table(frame.iloc[:0]).text
