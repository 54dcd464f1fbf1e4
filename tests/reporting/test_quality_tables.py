"""The table of reasoning qualities."""

import pytest

from mulcot_rd.metrics.quality import judge_scores, quality_scores
from mulcot_rd.reporting.quality_tables import qualities_table, quality_table
from mulcot_rd.reporting.runs import RunMetrics
from mulcot_rd.reporting.writers import table_texts
from mulcot_rd.schema import Reasoning, Sentiment

ABOUT = {"run": {"teacher": "offline-rules", "limit": 12}}


@pytest.fixture
def quality(posts):
    def scores(conclusion, *, judged=False):
        written = [
            Reasoning(
                text_analysis="It says 'awful'.", image_analysis="i", conflict_resolution="c",
                final_conclusion=conclusion, prediction=Sentiment.POSITIVE,
            )
            for _ in posts
        ]  # fmt: skip
        texts = ["one two three four five"] * len(posts)
        found = quality_scores(written, texts, posts, seed=1)
        verdicts = [Sentiment.POSITIVE, *["unclear"] * (len(posts) - 1)]
        return found | (judge_scores(verdicts, [r.prediction for r in written], seed=1) if judged else {})

    return scores


def test_a_row_a_system_with_shares_in_percent_and_their_intervals(quality, posts):
    conclusions = {"teacher": "so it is positive", "assistant": "it is negative", "student": "who knows"}
    found = {system: quality(conclusion) for system, conclusion in conclusions.items()}
    table = quality_table(found, ABOUT, "sample", "arch4-tiny-full", "tiny").frame.set_index("written by")
    assert list(table.index) == ["teacher", "assistant", "student"]
    assert table["complete"].tolist() == [100, 100, 100]
    assert table["conclusion_entails"].tolist() == [100, 0, 0]
    assert table["conclusion_contradicts"].tolist() == [0, 100, 0]
    assert table.loc["teacher", "conclusion_entails 95% interval"] == "100.0 to 100.0"
    assert table["reasonings"].tolist() == [len(posts)] * 3
    assert "judged" not in table.columns
    assert table.loc["teacher", "source"] == "measured; offline-rules; first 12 posts a split"
    assert table.loc["student", "source"].startswith("measured (tiny model, random initial weights); taught by rules")


def test_what_a_judge_said_has_columns_where_one_was_asked(quality, posts):
    table = quality_table({"student": quality("positive", judged=True)}, {}, "sample", "r", "full")
    row = table.frame.iloc[0]
    assert row["judged"] == len(posts)
    assert row["judged_entails"] == pytest.approx(100 / len(posts), abs=0.01)
    assert row["judged_entails 95% interval"]
    assert "judged_entails" in table.note


def test_every_run_has_its_rows_and_a_teacher_that_runs_share_has_one(quality):
    found = {"teacher": quality("positive"), "assistant": quality("who knows"), "student": None}
    info = {"arch": 4, "scale": "tiny", "seed": 42, "teacher": "offline-rules", "dataset": "sample"}
    runs = [
        RunMetrics(run={**info, "run": run, "variant": "full", "limit": limit}, quality=found)
        for run, limit in (("a", None), ("b", None), ("c", 9))
    ]
    frame = qualities_table(runs).frame
    assert frame[["run", "written by"]].to_numpy().tolist() == [
        *(["a", "teacher"], ["a", "assistant"], ["b", "assistant"], ["c", "teacher"], ["c", "assistant"]),
    ]
    assert frame["conclusion_entails"].tolist() == [100, 0, 0, 100, 0]


def test_systems_that_wrote_nothing_and_runs_that_are_not_there_leave_rows_out(quality):
    assert list(
        quality_table({"assistant": None, "student": quality("x")}, {}, "s", "r", "tiny").frame["written by"]
    ) == ["student"]
    empty = quality_table({}, {}, "s", "r", "tiny")
    assert len(empty.frame) == 0
    assert set(table_texts(empty, "quality_table")) == {"md", "csv", "tex"}
