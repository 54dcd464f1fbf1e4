"""The paper's own numbers, as printed, for the rows that stand beside what was measured."""

from functools import cache
from importlib.resources import files
from io import StringIO

import pandas as pd

DATASETS: tuple[str, ...] = ("mvsa_single", "mvsa_multiple", "twitter2015", "twitter2017")
COLUMNS: tuple[str, ...] = ("table", "method", "dataset", "metric", "value")
# A cell that the paper prints once for all methods of a table, such as the size of a split, is kept once.
ALL_METHODS = "all"
# How the names of the paper's own rows begin.
OWN_METHOD = "MulCoT-RD"
DIST_NOTE = (
    "Measured Dist-1/2 are those of the generated texts. The published ones are those of the reference texts, which is "
    "why the paper's Table 5 prints the same 49.8 and 80.2 for three different models on MVSA-Single: they compare "
    "with the reference_dist columns."
)
# Whole numbers: posts, training rows, parameters.
COUNTS: tuple[str, ...] = ("train", "dev", "test", "train_plus", "samples", "parameters", "trainable_parameters")
PERCENTAGES: tuple[str, ...] = (
    "accuracy",
    "weighted_f1",
    "macro_f1",
    "sim",
    "meteor",
    "bleu",
    "rouge_l",
    "dist_1",
    "dist_2",
    "trainable_percent",
)
# Parameters in 10^9, 10^12 operations, milliseconds and GB, all of one prediction (Tables 11 and 12).
QUANTITIES: tuple[str, ...] = ("parameters_billion", "tflops", "latency_ms", "memory_gb")


@cache
def published() -> pd.DataFrame:
    """Every number of Tables 1, 3 to 8 and 10 to 12 of the paper; what a table leaves out ("-") has no row.

    Returns:
        Columns ``table`` (its number), ``method``, ``dataset`` (empty in Table 10), ``metric``, ``value`` (percent,
        numbers, or the unit in the metric's name). A ``*`` after a method is the paper's mark of zero-shot numbers.
        Table 5's ``dist_1`` and ``dist_2`` are those of the reference texts, as the authors computed them.

    Raises:
        ValueError: If the file breaks these rules; the message names the row.
    """
    return read_published((files(__package__) / "published.csv").read_text(encoding="utf-8"))


def read_published(text: str) -> pd.DataFrame:
    """Read and check the text of ``published.csv``; see :func:`published`."""
    frame = pd.read_csv(StringIO(text), keep_default_na=False)
    if tuple(frame.columns) != COLUMNS:
        raise ValueError(f"published.csv has the columns {', '.join(frame.columns)}, not {', '.join(COLUMNS)}")
    frame["value"] = pd.to_numeric(frame["value"], errors="coerce")
    metric, value = frame["metric"], frame["value"]
    percentage, count, quantity = (metric.isin(names) for names in (PERCENTAGES, COUNTS, QUANTITIES))
    faults = {
        "an unknown data set": ~frame["dataset"].isin(DATASETS) & ~((frame["table"] == 10) & (frame["dataset"] == "")),
        "an unknown metric": ~(percentage | count | quantity),
        "a percentage outside 0 to 100": percentage & ~value.between(0, 100),
        "a count that is no whole number above 0": count & ~((value > 0) & (value % 1 == 0)),
        "a quantity that is no number above 0": quantity & ~(value > 0),
        "the table, method, data set and metric of an earlier row": frame.duplicated(list(COLUMNS[:-1])),
    }
    for fault, rows in faults.items():
        if rows.any():
            raise ValueError(f"published.csv, line {rows.idxmax() + 2}, has {fault}: correct it after the paper")
    return frame


def published_rows(dataset: str, tables: tuple[int, ...]) -> pd.DataFrame:
    """A data set's published rows of some tables, a row a method and a column a metric, in the paper's order.

    Args:
        dataset: Its name; empty for Table 10, which is of no data set.
        tables: Their numbers. Where several print the same metric of a method, the first of them counts.

    Returns:
        The column ``method`` and one column a metric, cells printed once for all methods in each row; no rows for a
        data set that the paper does not have.
    """
    rows = published()
    rows = rows[(rows["dataset"] == dataset) & rows["table"].isin(tables)]
    # Tables 3, 4, 5 and 7 share methods but not numbers: one row gathers all that is printed of a method.
    wide = rows.pivot_table(index="method", columns="metric", values="value", aggfunc="first", sort=False)
    if ALL_METHODS in wide.index:
        wide = wide.fillna(wide.loc[ALL_METHODS]).drop(index=ALL_METHODS)
    return wide.reset_index().rename_axis(columns=None)
