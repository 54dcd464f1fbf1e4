"""The paper's own figures of MulCoT-RD, as printed, for the rows that stand beside what was measured."""

from functools import cache
from importlib.resources import files
from io import StringIO

import pandas as pd

DATASETS: tuple[str, ...] = ("mvsa_single", "mvsa_multiple", "twitter2015", "twitter2017")
COLUMNS: tuple[str, ...] = ("table", "method", "dataset", "metric", "value")
# Numbers of posts; every other metric is a percentage.
COUNTS: tuple[str, ...] = ("train", "dev", "test", "train_plus", "samples")
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
)


@cache
def published() -> pd.DataFrame:
    """The rows of MulCoT-RD in Tables 1, 3, 4, 5, 7 and 8 of the paper.

    Returns:
        Columns ``table`` (its number), ``method``, ``dataset``, ``metric``, ``value`` (percent; posts for counts).
        Table 5's ``dist_1`` and ``dist_2`` are those of the reference texts, as the authors computed them.

    Raises:
        ValueError: If the file breaks these rules; the message names the row.
    """
    return read_published((files(__package__) / "published.csv").read_text(encoding="utf-8"))


def read_published(text: str) -> pd.DataFrame:
    """Read and check the text of ``published.csv``; see :func:`published`."""
    frame = pd.read_csv(StringIO(text))
    if tuple(frame.columns) != COLUMNS:
        raise ValueError(f"published.csv has the columns {', '.join(frame.columns)}, not {', '.join(COLUMNS)}")
    frame["value"] = pd.to_numeric(frame["value"], errors="coerce")
    percentage, count = frame["metric"].isin(PERCENTAGES), frame["metric"].isin(COUNTS)
    faults = {
        "an unknown data set": ~frame["dataset"].isin(DATASETS),
        "an unknown metric": ~(percentage | count),
        "a percentage outside 0 to 100": percentage & ~frame["value"].between(0, 100),
        "a count that is no whole number above 0": count & ~((frame["value"] > 0) & (frame["value"] % 1 == 0)),
        "the table, method, data set and metric of an earlier row": frame.duplicated(list(COLUMNS[:-1])),
    }
    for fault, rows in faults.items():
        if rows.any():
            raise ValueError(f"published.csv, line {rows.idxmax() + 2}, has {fault}: correct it after the paper")
    return frame


def published_rows(dataset: str, tables: tuple[int, ...]) -> pd.DataFrame:
    """A data set's published rows of some tables, a row a method and a column a metric, in the paper's order.

    Returns:
        The column ``method`` and one column a metric; no rows for a data set that the paper does not have.
    """
    rows = published()
    rows = rows[(rows["dataset"] == dataset) & rows["table"].isin(tables)]
    # Tables 3, 4, 5 and 7 share methods but not figures: one row gathers all that is printed of a method.
    wide = rows.pivot_table(index="method", columns="metric", values="value", aggfunc="first", sort=False)
    return wide.reset_index().rename_axis(columns=None)
