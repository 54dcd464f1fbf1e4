from io import StringIO

import pandas as pd
import pytest

from mulcot_rd.reporting.result_table import INTERVAL_COLUMN, result_table, run_report
from mulcot_rd.reporting.score_tables import scores_across
from mulcot_rd.reporting.sources import MEASURED_TINY, source_of_run
from mulcot_rd.reporting.writers import ReportTable, laid_out, latex, markdown, table_texts, to_markdown


@pytest.fixture
def baselines(scores):
    plain = {name: scores[name] for name in ("accuracy", "weighted_f1", "macro_f1", "valid_rate", "accuracy_interval")}
    return {"majority": plain, "tfidf_logistic_regression": plain}


def test_every_row_says_where_it_comes_from(scores, baselines):
    metrics = {
        "assistant": scores,
        "student": scores,
        "teacher": {"accuracy": 0.7},
        "references": {"dist_1": 0.42, "dist_2": 0.73},
    }
    table = result_table(metrics, baselines, "twitter2015", "arch4-tiny-full", "tiny").set_index("method")
    assert table["source"].to_dict() == {
        "majority class": "measured",
        "TF-IDF + logistic regression": "measured",
        "teacher (stage one)": "measured",
        "assistant": MEASURED_TINY,
        "student": MEASURED_TINY,
    } | {name: "published" for name in table.index if name.startswith("MulCoT-RD")}
    assert (table["source"] == "published").sum() == 8
    student = table.loc["student"]
    assert student["accuracy"] == 61.23
    assert student[INTERVAL_COLUMN] == "58.0 to 64.0"
    assert (student["dist_1"], student["reference_dist_1"]) == (44.0, 42.0)
    assert pd.isna(table.loc["teacher (stage one)", "sim"])
    assert table.loc["MulCoT-RD(stu), teacher GPT-4o-mini", "sim"] == 90.3


@pytest.mark.parametrize(
    ("about", "source"),
    [
        ({"captions": "offline-rules"}, "measured; captions by rules"),
        ({"captions": "gpt-4o-mini", "teacher": "gpt-4o-mini"}, "measured"),
        ({"teacher": "offline-rules", "limit": 9}, "measured; taught by rules; first 9 posts a split"),
        ({"teacher": "offline-rules", "variant": "zero_shot"}, "measured"),
        ({"checkpoints": ["mine"], "served": "big-one"}, "measured; big-one, served"),
        ({"checkpoints": ["mine"]}, "measured; models: mine"),
    ],
)
def test_a_source_says_what_a_reader_of_its_figures_must_know(about, source):
    assert source_of_run("full", about) == source


def test_a_full_run_is_plainly_measured_and_the_sample_has_no_published_rows(scores):
    table = result_table({"student": scores}, {}, "sample", "arch4-full-no_assistant", "full")
    assert table[["method", "source"]].to_numpy().tolist() == [["student", "measured"]]


def test_another_checkpoint_in_a_role_is_named_beside_every_figure(scores):
    metrics = {"run": {"checkpoints": ["small-7b", "small-3b"], "limit": 16}, "student": scores}
    table = result_table(metrics, {}, "sample", "r", "full")
    assert table.loc[0, "source"] == "measured; models: small-7b, small-3b; first 16 posts a split"
    assert "measured; models: small-7b, small-3b" in run_report(metrics, {}, "sample", "r", "full").caption


def test_without_the_run_the_baselines_stand_alone(baselines):
    table = result_table({}, baselines, "sample", "arch4-tiny-full", "tiny")
    assert table["method"].tolist() == ["majority class", "TF-IDF + logistic regression"]


@pytest.mark.parametrize(
    ("change", "scale", "message"),
    [
        ({"run": {}}, "tiny", "hold no model: run the evaluation pipeline first"),
        ({"student": {"accuracy": 61.2}}, "tiny", "accuracy is 61.2: metrics are kept as fractions"),
        ({"student": {"accuracy": 0.6}}, "huge", "unknown scale 'huge'"),
    ],
)
def test_faults(change, scale, message):
    with pytest.raises(ValueError, match=message):
        result_table(change, {}, "sample", "r", scale)


FRAME = pd.DataFrame({"a|b_c": ["x|y", "50% & $1"], "n": pd.array([3, None], dtype="Int64"), "v": [1.25, None]})


def test_markdown():
    assert to_markdown(FRAME).splitlines() == [
        "| a\\|b_c | n | v |",
        "| --- | ---: | ---: |",
        "| x\\|y | 3 | 1.3 |",
        "| 50% & $1 |  |  |",
    ]


def test_latex_escapes_and_has_the_rules_of_booktabs():
    text = latex(laid_out(FRAME), "50% of a_b", "tab:x")
    assert r"\caption{50\% of a\_b}" in text
    assert r"50\% \& \$1 &  &  \\" in text
    assert r"\begin{tabular}{lrr}" in text
    assert text.index(r"\toprule") < text.index(r"\midrule") < text.index(r"\bottomrule")
    assert "nan" not in text.lower()


def test_a_latex_table_is_no_wider_than_its_line():
    frame = pd.DataFrame(
        {
            "method": ["one", "two"],
            "set accuracy": [70.0, 80.0],
            "set accuracy interval": [None, "78.0 to 82.0"],
            "set macro_f1": [60.0, 61.0],
            "seeds": [None, None],
            "posts": [10, 20],
        }
    )
    lines = latex(laid_out(frame), "c", "tab:x").splitlines()
    table = lines[lines.index(r"\begin{tabular}{lr@{ }lrr}") :]
    assert table[1:6] == [
        r"\toprule",
        r" & \multicolumn{3}{c}{set} &  \\",
        r"\cmidrule(lr){2-4}",
        r"method & \multicolumn{2}{c}{accuracy} & macro\_f1 & posts \\",
        r"\midrule",
    ]
    assert table[6:8] == [
        r"one & \underline{70.0} &  & \underline{60.0} & 10 \\",
        r"two & \textbf{80.0} & \scriptsize{78.0 to 82.0} & \textbf{61.0} & 20 \\",
    ]
    assert table[-2:] == [r"\end{tabular}}", r"\end{table}"]
    assert r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%" in lines


def test_decimals_are_those_of_the_column_at_least_and_at_most():
    frame = pd.DataFrame({"ms": [8302.95, 0.25, 7.0], "n": [1.25, None, 2.0]})
    lines = markdown(laid_out(frame, {"ms": (0, 4)})).splitlines()[2:]
    assert lines == ["| 8302.95 | 1.3 |", "| 0.25 |  |", "| 7 | 2.0 |"]


def test_a_source_stands_once_above_its_rows_the_best_score_is_bold_and_the_second_underlined():
    frame = pd.DataFrame(
        {
            "dataset": ["a", "a", "a", "b"],
            "method": ["one", "two", "three", "four"],
            "source": ["published", "measured", "measured", "measured"],
            "accuracy": [70.0, 80.02, 80.04, 10.0],
            "latency_ms": [1.0, 2.0, 3.0, 4.0],
        }
    )
    texts = table_texts(ReportTable(frame, "c"), "t")
    assert texts["md"].splitlines()[2:] == [
        "| dataset | method | accuracy | latency_ms |",
        "| --- | --- | ---: | ---: |",
        "| *published* |  |  |  |",
        "| a | one | 70.0 | 1.0 |",
        "| *measured* |  |  |  |",
        "| a | two | **80.0** | 2.0 |",
        "| a | three | **80.0** | 3.0 |",
        "| b | four | 10.0 | 4.0 |",
    ]
    assert r"\begin{tabular}{llrr}" in texts["tex"]
    assert texts["tex"].count(r"\textit{measured}") == 1
    assert r"a & two & \textbf{80.0} & 2.0 \\" in texts["tex"]
    assert r"a & one & \underline{70.0} & 1.0 \\" in texts["tex"]
    assert texts["tex"].count("underline") == 1
    assert pd.read_csv(StringIO(texts["csv"]))["source"].tolist() == frame["source"].tolist()
    assert "**" not in to_markdown(frame)


def test_a_table_is_a_text_of_each_kind():
    texts = table_texts(ReportTable(FRAME, "A caption", "A note", {"v": (2, 2)}), "table_x")
    assert set(texts) == {"md", "csv", "tex"}
    assert texts["md"].startswith("**A caption**\n\n| a")
    assert texts["md"].endswith("\n\nA note\n")
    assert pd.read_csv(StringIO(texts["csv"]))["v"].tolist()[0] == 1.25
    assert "A caption. A note" in texts["tex"]
    for kind in ("md", "tex"):
        assert "1.25" in texts[kind]


def test_runs_are_laid_out_against_each_other_with_their_intervals():
    names = {"dataset": "d", "run": "r", "source": "measured"}
    scores = pd.DataFrame(
        [
            {**names, "method": "student", "metric": "accuracy", "value": 50.04, "low": 40.0, "high": 60.06},
            {**names, "method": "student", "metric": "sim", "value": 10.0, "low": 1.0, "high": 2.0},
            {**names, "method": "assistant", "metric": "accuracy", "value": 70.0, "low": None, "high": None},
        ]
    )
    across = scores_across(scores, ["accuracy", "macro_f1"]).set_index("method")
    assert list(across.columns) == ["dataset", "run", "source", "accuracy", "accuracy interval"]
    assert across.loc["student", "accuracy interval"] == "40.0 to 60.1"
    assert pd.isna(across.loc["assistant", "accuracy interval"])
    assert scores_across(scores.iloc[:0], ["accuracy"]).empty
