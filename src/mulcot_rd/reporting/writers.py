"""Tables on disk: GitHub Markdown to read, CSV to compute with, LaTeX to print."""

import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

Decimals = tuple[int, int]
_ONE_DECIMAL: Decimals = (1, 1)


@dataclass(frozen=True)
class ReportTable:
    """A table with what a reader needs beside it.

    Attributes:
        frame: The cells; missing values are empty cells.
        caption: What the table shows.
        note: What a reader must know to read it right.
        decimals: Fewest and most decimals of a column's numbers where exactly one is not right; the CSV has them all.
    """

    frame: pd.DataFrame
    caption: str
    note: str = ""
    decimals: Mapping[str, Decimals] = field(default_factory=dict)


def table_texts(table: ReportTable, name: str) -> dict[str, str]:
    """A table as the texts of its files, by their endings: ``md``, ``tex`` and ``csv``.

    Caption and note stand above and below it, but for the CSV, which holds the cells alone.

    Args:
        table: The table; its index is left out. Missing values become empty cells.
        name: Name of the files without ending.
    """
    frame, caption, note = table.frame, table.caption, table.note
    parts = [f"**{caption}**", to_markdown(frame, table.decimals), note]
    return {
        "md": "\n\n".join(part for part in parts if part) + "\n",
        "tex": to_latex(frame, f"{caption}. {note}" if note else caption, f"tab:{name}", table.decimals),
        "csv": frame.to_csv(index=False, lineterminator="\n"),
    }


def to_markdown(frame: pd.DataFrame, decimals: Mapping[str, Decimals] | None = None) -> str:
    """A table in GitHub Markdown: numbers to the right, one decimal if not said, missing values as empty cells."""
    cells = _cells(frame, decimals)
    rule = [
        "---:" if pd.api.types.is_numeric_dtype(kind) or frame[column].isna().all() else "---"
        for column, kind in frame.dtypes.items()
    ]
    rows = [list(cells.columns), rule, *cells.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(_escape(cell) for cell in row) + " |" for row in rows)


def to_latex(frame: pd.DataFrame, caption: str, label: str, decimals: Mapping[str, Decimals] | None = None) -> str:
    """A LaTeX ``table`` (needs the package booktabs), with everything escaped that LaTeX would read as a command."""
    cells = _cells(frame, decimals)
    return (
        cells.style.format(escape="latex")
        .format_index(escape="latex", axis="columns")
        .hide(axis="index")
        .to_latex(caption=_latex_text(caption), label=label, hrules=True, position_float="centering")
    )


def _cells(frame: pd.DataFrame, decimals: Mapping[str, Decimals] | None = None) -> pd.DataFrame:
    """The table as the text of its cells."""
    places = decimals or {}
    return pd.DataFrame(
        {
            str(column): [_cell(value, places.get(str(column), _ONE_DECIMAL)) for value in frame[column]]
            for column in frame.columns
        },
        dtype=object,
    )


def _cell(value: object, decimals: Decimals) -> str:
    if pd.isna(value):
        return ""
    if isinstance(value, numbers.Integral):
        return str(value)
    if not isinstance(value, numbers.Real):
        return str(value)
    fewest, most = decimals
    whole, _, fraction = f"{value:.{most}f}".partition(".")
    fraction = fraction[:fewest] + fraction[fewest:].rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def _latex_text(text: str) -> str:
    return "".join(f"\\{character}" if character in "&%$#_{}" else character for character in text)
