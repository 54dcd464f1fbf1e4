"""Tables on disk: GitHub Markdown to read, CSV to compute with, LaTeX to print."""

import numbers
from dataclasses import dataclass
from pathlib import Path

import pandas as pd


@dataclass(frozen=True)
class ReportTable:
    """A table with what a reader needs beside it.

    Attributes:
        frame: The cells; missing values are empty cells.
        caption: What the table shows.
        note: What a reader must know to read it right.
    """

    frame: pd.DataFrame
    caption: str
    note: str = ""


def write_table(frame: pd.DataFrame, folder: Path, name: str, caption: str, note: str = "") -> list[Path]:
    """Write a table as ``<name>.md``, ``<name>.csv`` and ``<name>.tex``.

    Args:
        frame: The table; its index is left out. Missing values become empty cells.
        folder: Where to; made if missing.
        name: File name without ending.
        caption: What the table shows, above it (not in the CSV).
        note: What a reader must know, below it (not in the CSV).

    Returns:
        The three files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = [f"**{caption}**", to_markdown(frame), note]
    texts = {
        "md": "\n\n".join(part for part in parts if part) + "\n",
        "csv": frame.to_csv(index=False, lineterminator="\n"),
        "tex": to_latex(frame, f"{caption}. {note}" if note else caption, f"tab:{name}"),
    }
    files = [folder / f"{name}.{ending}" for ending in texts]
    for file, text in zip(files, texts.values(), strict=True):
        file.write_text(text, encoding="utf-8")
    return files


def to_markdown(frame: pd.DataFrame) -> str:
    """A table in GitHub Markdown: numbers to the right with one decimal, missing values as empty cells."""
    cells = _cells(frame)
    rule = [
        "---:" if pd.api.types.is_numeric_dtype(kind) or frame[column].isna().all() else "---"
        for column, kind in frame.dtypes.items()
    ]
    rows = [list(cells.columns), rule, *cells.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(_escape(cell) for cell in row) + " |" for row in rows)


def to_latex(frame: pd.DataFrame, caption: str, label: str) -> str:
    """A LaTeX ``table`` (needs the package booktabs), with everything escaped that LaTeX would read as a command."""
    cells = _cells(frame)
    return (
        cells.style.format(escape="latex")
        .format_index(escape="latex", axis="columns")
        .hide(axis="index")
        .to_latex(caption=_latex_text(caption), label=label, hrules=True, position_float="centering")
    )


def _cells(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as the text of its cells."""
    return pd.DataFrame(
        {str(column): [_cell(value) for value in frame[column]] for column in frame.columns}, dtype=object
    )


def _cell(value: object) -> str:
    if pd.isna(value):
        return ""
    if isinstance(value, numbers.Integral):
        return str(value)
    return f"{value:.1f}" if isinstance(value, numbers.Real) else str(value)


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def _latex_text(text: str) -> str:
    return "".join(f"\\{character}" if character in "&%$#_{}" else character for character in text)
