"""Tables on disk: GitHub Markdown to read, CSV to compute with, LaTeX to print."""

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import NamedTuple

import pandas as pd

from mulcot_rd.numbers import number_text

Decimals = tuple[int, int]
_ONE_DECIMAL: Decimals = (1, 1)
# The scores that methods are compared by: the highest of a column, or of a data set in it, is the best.
_COMPARED = ("accuracy", "weighted_f1", "macro_f1", "sim", "meteor", "bleu", "rouge_l")
# It says the same of many rows; so it stands once, above them.
_SOURCE = "source"
_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
)


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


class Row(NamedTuple):
    """A row as a reader sees it.

    Attributes:
        source: Where its numbers come from, and those of the rows below it; ``None`` where the row above says so.
        cells: The texts.
        best: Whether each cell is the best score of its column.
        second: Whether it is the second best.
    """

    source: str | None
    cells: list[str]
    best: list[bool]
    second: list[bool]


class Layout(NamedTuple):
    """A table as a reader sees it: names of the columns, whether each holds numbers, and the rows."""

    columns: list[str]
    numeric: list[bool]
    rows: list[Row]


def laid_out(frame: pd.DataFrame, decimals: Mapping[str, Decimals] | None = None, *, compared: bool = True) -> Layout:
    """A table as a reader sees it: one decimal if not said, ``source`` above the rows that share it.

    Args:
        frame: The cells.
        decimals: As :class:`ReportTable` has them.
        compared: Whether the best two scores of a column are marked, where it has different ones.
    """
    shown = frame.drop(columns=_SOURCE, errors="ignore")
    places = decimals or {}
    cells = pd.DataFrame(
        {
            str(column): [_cell(value, places.get(str(column), _ONE_DECIMAL)) for value in shown[column]]
            for column in shown.columns
        },
        index=frame.index,
        dtype=object,
    )
    ranks = pd.DataFrame(0, index=cells.index, columns=cells.columns)
    of_one = frame["dataset"] if "dataset" in frame else pd.Series(0, index=frame.index)
    for column in cells.columns if compared else ():
        if column.rpartition(" ")[2] in _COMPARED:
            # As they are shown: of two rows with the same digits neither is better.
            scores = pd.to_numeric(cells[column]).groupby(of_one)
            rank = scores.rank(method="dense", ascending=False)
            ranks[column] = rank.where(scores.transform("nunique") > 1, 0)
    sources = frame[_SOURCE].tolist() if _SOURCE in frame else [None] * len(frame)
    above = [None, *sources][: len(sources)]
    return Layout(
        list(cells.columns),
        [pd.api.types.is_numeric_dtype(shown[name]) or bool(shown[name].isna().all()) for name in shown.columns],
        [
            Row(source if source != before else None, texts, [n == 1 for n in ranked], [n == 2 for n in ranked])
            for source, before, texts, ranked in zip(
                sources, above, cells.to_numpy().tolist(), ranks.to_numpy().tolist(), strict=True
            )
        ],
    )


def table_texts(table: ReportTable, name: str) -> dict[str, str]:
    """A table as the texts of its files, by their endings: ``md``, ``tex`` and ``csv``.

    Caption and note stand above and below it, but for the CSV, which holds the cells alone.

    Args:
        table: The table; its index is left out. Missing values become empty cells.
        name: Name of the files without ending.
    """
    layout, caption, note = laid_out(table.frame, table.decimals), table.caption, table.note
    parts = [f"**{caption}**", markdown(layout), note]
    return {
        "md": "\n\n".join(part for part in parts if part) + "\n",
        "tex": latex(layout, f"{caption}. {note}" if note else caption, f"tab:{name}"),
        "csv": table.frame.to_csv(index=False, lineterminator="\n"),
    }


def to_markdown(frame: pd.DataFrame) -> str:
    """A table without caption in GitHub Markdown, one decimal; no score is marked as the best."""
    return markdown(laid_out(frame, compared=False))


def markdown(layout: Layout) -> str:
    """A table in GitHub Markdown: numbers to the right, the best in bold, sources as rows of their own."""
    rows = [list(map(_escape, layout.columns)), ["---:" if numeric else "---" for numeric in layout.numeric]]
    for source, cells, best, _ in layout.rows:
        if source is not None:
            rows.append([f"*{_escape(source)}*", *[""] * (len(cells) - 1)])
        rows.append([f"**{_escape(c)}**" if bold else _escape(c) for c, bold in zip(cells, best, strict=True)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def latex(layout: Layout, caption: str, label: str) -> str:
    """A LaTeX ``table`` (needs the packages booktabs and graphicx), with every command escaped.

    As :func:`markdown`, with the second best underlined, and no wider than the line: columns without any value are left
    out, an interval stands small behind its number, headings that share their first word stand below it, and what is
    still too wide is scaled down.
    """
    kept = [n for n in range(len(layout.columns)) if not layout.rows or any(row.cells[n] for row in layout.rows)]
    names = [layout.columns[n] for n in kept]
    rows = []
    for number, row in enumerate(layout.rows):
        if row.source is not None:
            rows += [r"\addlinespace"] if number else []
            source = rf"\textit{{{row.source.translate(_LATEX)}}}"
            rows.append(rf"{_over(len(kept), 'l', source)} \\")
        cells = [_marked(row, n, interval=_is_interval(name)) for n, name in zip(kept, names, strict=True)]
        rows.append(rf"{' & '.join(cells)} \\")
    numeric = (layout.numeric[n] for n in kept)
    kinds = ["@{ }l" if _is_interval(name) else "lr"[number] for name, number in zip(names, numeric, strict=True)]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption.translate(_LATEX)}}}",
        rf"\label{{{label}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{''.join(kinds)}}}",
        r"\toprule",
        *_headings(names),
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _headings(names: Sequence[str]) -> list[str]:
    """The headings of a LaTeX table: neighbours that share their first word stand below it."""
    owned = [(name, 1 + _is_interval(after)) for name, after in pairwise([*names, ""]) if not _is_interval(name)]
    above, below, rules, begin = [], [], [], 1
    for first, grouped in groupby(owned, key=lambda column: column[0].partition(" ")[0]):
        group = list(grouped)
        width = sum(span for _, span in group)
        shared = len(group) > 1
        if shared:
            rules.append(rf"\cmidrule(lr){{{begin}-{begin + width - 1}}}")
        above.append(_over(width, "c", first.translate(_LATEX) if shared else ""))
        for name, span in group:
            below.append(_over(span, "c", (name.partition(" ")[2] if shared else name).translate(_LATEX)))
        begin += width
    lines = [rf"{' & '.join(below)} \\"]
    return [rf"{' & '.join(above)} \\", "".join(rules), *lines] if rules else lines


def _marked(row: Row, number: int, *, interval: bool) -> str:
    cell = row.cells[number].translate(_LATEX)
    mark = (
        r"\textbf" if row.best[number] else r"\underline" if row.second[number] else r"\scriptsize" if interval else ""
    )
    return rf"{mark}{{{cell}}}" if mark and cell else cell


def _over(columns: int, aligned: str, text: str) -> str:
    return rf"\multicolumn{{{columns}}}{{{aligned}}}{{{text}}}" if columns > 1 else text


def _is_interval(name: str) -> bool:
    return name.rpartition(" ")[2] == "interval"


def _cell(value: object, decimals: Decimals = _ONE_DECIMAL) -> str:
    if pd.isna(value):
        return ""
    if isinstance(value, numbers.Integral) or not isinstance(value, numbers.Real):
        return str(value)
    fewest, most = decimals
    whole, _, fraction = number_text(float(value), most).partition(".")
    fraction = fraction[:fewest] + fraction[fewest:].rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
