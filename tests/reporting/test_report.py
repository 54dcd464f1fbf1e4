"""The page of a run."""

import pandas as pd
import pytest

from mulcot_rd.reporting.report import answers_section, confusions, drawn, report_page, score_rows
from mulcot_rd.schema import Sentiment

ORIGIN = {"teacher": "", "changed": [], "config": {}, "lineage": []}


def page(answers, **origin) -> str:
    table = pd.DataFrame({"method": ["student"], "source": ["measured"], "accuracy": [91.85], "empty": [None]})
    return report_page("sample, <mine>", {"Scores of it": table}, {"Training": b"png"}, answers, {**ORIGIN, **origin})


@pytest.fixture
def section(posts, make_prediction, make_teacher, scores):
    """The student is wrong on two posts and the last; in the first the teacher sees a conflict, in the last it does."""

    def made(most=12):
        other = {Sentiment.POSITIVE: Sentiment.NEGATIVE, Sentiment.NEGATIVE: Sentiment.POSITIVE}
        wrong = {post.id: other.get(post.label, Sentiment.POSITIVE) for post in posts[:2]}
        conflict = {"text_analysis": "It says 'I adore trains': positive.", "image_analysis": "It leans negative."}
        student = [make_prediction(post, wrong.get(post.id, post.label)) for post in posts]
        student[-1] = make_prediction(posts[-1], None, **conflict, label_attempts=0)
        teacher = [make_teacher(post, post.label) for post in posts[:-1]]
        teacher[0] = teacher[0].model_copy(update=conflict)
        metrics = {"student": scores, "teacher": {"accuracy": 0.5, "confusion": {}}}
        return answers_section(posts, {"student": student}, teacher, metrics, scale="tiny", most=most, seed=1)

    return made


def test_errors_and_conflicts_are_counted_and_shown_with_their_images(section, posts):
    made = section()
    assert (made["posts"], made["wrong"], made["errors_shown"]) == (len(posts), 3, 3)
    assert (made["conflicts"], made["conflicts_right"], made["conflicts_shown"]) == (2, 0, 2)
    assert made["errors"].count("data:image/jpeg;base64,") == 3
    assert posts[0].id in made["conflict_posts"]
    assert posts[-1].id in made["conflict_posts"]
    assert "label wrong" in made["errors"]
    assert section(most=1)["errors"].count("data:image/jpeg;base64,") == 1


def test_after_preference_optimisation_the_page_is_about_the_student_that_came_out_of_it(
    posts, make_prediction, scores
):
    right = [make_prediction(post, post.label) for post in posts]
    answers = {"student": [make_prediction(post, None) for post in posts], "student_preference": right}
    metrics = {"student": scores, "student_preference": scores}
    made = answers_section(posts, answers, [], metrics, scale="tiny", most=3, seed=1)
    assert made["systems"] == ["student", "student_preference"]
    assert (made["model"], made["wrong"]) == ("student_preference", 0)
    assert "student_preference, label prompt" in made["confusions"]


def test_quoted_words_that_the_post_does_not_have_are_marked(section):
    assert "It says <mark" in section()["conflict_posts"]
    assert "&#39;I adore trains&#39;</mark>: positive." in section()["conflict_posts"]


def test_the_page_needs_nothing_else_and_takes_no_html_of_others(section):
    shown = page(section(), teacher="# A\n\n| <b>x</b> |\n| --- |\n| 1 |\n", changed=["a: 1 -> <2>"], config={"a": 2})
    assert shown.startswith("<!DOCTYPE html>")
    assert "<h1>sample, &lt;mine&gt;: measured (tiny model, random initial weights)</h1>" in shown
    assert "data:image/png;base64,cG5n" in shown
    assert "&lt;b&gt;x&lt;/b&gt;" in shown
    assert "<th>empty</th>" not in shown
    assert ">91.9</td>" in shown
    assert "a: 1 -&gt; &lt;2&gt;" in shown
    for needed in ("<script", "http:", "https:", 'src="/', "url("):
        assert needed not in shown


def test_a_run_that_has_nothing_yet_says_how_it_gets_it():
    empty = answers_section([], {}, [], {}, scale="tiny", most=3, seed=1)
    shown = page(empty)
    for said in ("kedro run --pipeline evaluation", "No report of the teacher", "No config.yml", "No record"):
        assert said in shown


def test_each_score_has_its_interval(scores):
    systems, rows = score_rows({"student": scores, "assistant": None, "teacher": {"accuracy": 0.5}})
    assert systems == ["teacher", "student"]
    assert dict(rows)["accuracy"] == ["50.0", "61.2 (58.0 to 64.0)"]
    assert dict(rows)["sim"] == ["", "90.0"]


def test_matrices_have_a_column_of_unreadable_answers_where_there_are_any(posts, make_prediction):
    right = [make_prediction(post, post.label) for post in posts]
    found = confusions({}, {"student": right})
    assert list(found) == ["student, label prompt", "student, reasoning"]
    assert list(found["student, reasoning"]["positive"]) == ["negative", "neutral", "positive"]
    right[0] = make_prediction(posts[0], None)
    found = confusions({}, {"student": right})["student, reasoning"]
    assert found[posts[0].label.value]["unreadable"] == 1


def test_posts_are_drawn_with_the_seed():
    assert drawn(range(100), 5, 1) == drawn(range(100), 5, 1) != drawn(range(100), 5, 2)
    assert sorted(drawn("abc", 9, 1)) == ["a", "b", "c"]
