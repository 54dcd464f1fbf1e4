"""A score has the same digits wherever it is shown."""

import pandas as pd
import pytest
from matplotlib.figure import Figure

from mulcot_rd.models.card import _scores
from mulcot_rd.numbers import interval_text, number_text, percent_text, percentage
from mulcot_rd.reporting.cells import percent
from mulcot_rd.reporting.figures import flan_t5_figure
from mulcot_rd.reporting.runs import RunInfo, RunMetrics
from mulcot_rd.reporting.writers import ReportTable, table_texts
from mulcot_rd.teacher.summary import _percent


@pytest.mark.parametrize(
    ("number", "text"),
    [(91.8508, "91.9"), (91.8499, "91.8"), (91.85, "91.9"), (100 * 0.5725, "57.3"), (-0.04, "0.0"), (-1.25, "-1.3")],
)
def test_a_number_is_rounded_once_and_ties_go_away_from_zero(number, text):
    assert number_text(number) == text


def test_every_place_shows_the_same_digits():
    # 91.85084 percent: rounded to two decimals first it would be 91.85, and then 91.8.
    share = 0.9185084
    table = table_texts(ReportTable(pd.DataFrame({"accuracy": [percent(share, "accuracy")]}), "c"), "t")
    run = RunInfo(dataset="sample", run="r", arch=5, scale="tiny", variant="full", seed=42)
    figure: Figure = flan_t5_figure(7, [RunMetrics(run=run, student={"accuracy": share})])
    (bar,) = figure.axes[0].texts
    assert percent_text(share) == _percent(share) == bar.get_text() == _scores({"accuracy": share})[0][1] == "91.9"
    assert "| 91.9 |" in table["md"]
    assert r"91.9 \\" in table["tex"]
    assert interval_text(share, 1) == "91.9 to 100.0"
    assert float(table["csv"].splitlines()[1]) == percentage(share) == pytest.approx(91.85084)
