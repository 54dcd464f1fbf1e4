"""The figure of how far probabilities can be trusted."""

import pytest

from mulcot_rd.metrics.calibration import confidence_scores
from mulcot_rd.reporting.confidence import confidence_figure
from mulcot_rd.schema import Sentiment

pytestmark = pytest.mark.usefixtures("no_warnings")


def test_each_model_has_its_reliability_and_its_surest_posts():
    scores = [[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.3, 0.0]]
    labels = [Sentiment.NEGATIVE, Sentiment.NEUTRAL, Sentiment.POSITIVE]
    told = {kind: confidence_scores(scores, labels, t) for kind, t in (("uncalibrated", 1.0), ("calibrated", 2.0))}
    figure = confidence_figure({"assistant": None, "student": {"temperature": 2.0, **told}}, "run", "tiny")
    reliability, coverage = figure.axes
    assert reliability.get_title() == "student: reliability"
    assert [text.get_text().partition(",")[0] for text in reliability.get_legend().get_texts()] == [
        "temperature 1",
        "temperature 2.00",
    ]
    (curve,) = coverage.get_lines()
    assert curve.get_ydata()[0] == pytest.approx(200 / 3)
    assert curve.get_ydata()[-1] == 100


def test_without_probabilities_the_figure_says_so():
    (panel,) = confidence_figure({"assistant": None, "student": None}, "run", "tiny").axes
    assert "No model of this run has probabilities" in panel.texts[0].get_text()
    (panel,) = confidence_figure({}, "run", "tiny").axes
    assert "kedro run --pipeline evaluation" in panel.texts[0].get_text()
