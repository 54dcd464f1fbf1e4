"""Rows of tab-separated and comma-separated files, one by one, so that a damaged row costs itself alone."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mulcot_rd.files import read_bytes, read_text
from mulcot_rd.ingest.result import IngestError

# The reason of a row that can't be read as text.
NOT_TEXT = "not UTF-8, or with a NUL byte"
# What stands for a missing value in files that pandas, R or a database wrote.
MISSING = {"NaN", "nan", "<NA>", "NA", "N/A", "None", "NULL", "null"}
# Excel writes semicolons where the comma is the decimal mark, and tabs as "Unicode text".
_DELIMITERS = ",;\t"
# Excel's own first line.
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[,;\t]*\r?\n?', re.IGNORECASE)


def tab_separated(path: Path, header: str) -> Iterator[tuple[int, list[str] | None]]:
    r"""Read a tab-separated file without quote handling (as ``csv.QUOTE_NONE``): a tweet's quotes are text.

    Only ``\n`` and ``\r\n`` end a line, never the Unicode separators a tweet may hold. Blank lines are skipped.

    Args:
        path: A UTF-8 file whose first line is its header.
        header: The header's first column, in lower case.

    Yields:
        Line number as an editor shows it (the header is 1), and the fields; ``None`` where the line is no text.

    Raises:
        IngestError: If the file can't be read as a whole, or the first line is not the header.
    """
    lines = read_bytes(path, IngestError).split(b"\n")
    first = lines[0].split(b"\t")[0].strip().lower()
    if first != header.encode():
        raise IngestError(f"{path}: the first line should be the header that begins with {header!r}; put it back")
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        try:
            yield number, None if b"\0" in line else line.removesuffix(b"\r").decode("utf-8").split("\t")
        except UnicodeDecodeError:
            yield number, None


def comma_separated(
    path: Path, columns: Sequence[str], *, optional: Sequence[str] = (), by_row: bool = False
) -> Iterator[tuple[int, dict[str, str], str | None]]:
    """Read a CSV file in the usual quoting, as Excel, pandas and others write it.

    Commas, semicolons or tabs part the columns, whichever the header has most of, or what a first line such as
    ``sep=;`` says. Letter case and white space around the header's names don't matter, nor does white space around
    values, nor empty columns at the end. A value of :data:`MISSING` is an empty one. Rows without any value are
    skipped.

    Args:
        path: A UTF-8 file.
        columns: The columns that the header must have, in lower case.
        optional: Others that are read where they are.
        by_row: Whether broken quotes and bytes that are no UTF-8 are faults of their row, and reading goes on in the
            line below the one where it begins. Where a data set is read they are faults of the file.

    Yields:
        Number of the line where the row begins, the values by column, and what is wrong with the row as such, or
        ``None``.

    Raises:
        IngestError: If the file is not UTF-8, is empty, lacks a column or names it twice, or its quotes are broken
            (everything after them could be misread).
    """
    text = read_bytes(path, IngestError).decode(errors="surrogateescape") if by_row else read_text(path, IngestError)
    lines = list(io.StringIO(text, newline=""))
    first = lines[0] if lines else ""
    given = _SEPARATOR_LINE.fullmatch(first)
    skipped = 1 if given else 0
    rows = _rows(lines, skipped, given[1] if given else max(_DELIMITERS, key=first.count))
    begins, raw = next(rows, (skipped + 1, []))
    if isinstance(raw, csv.Error):
        raise _broken(path, begins, raw)
    header = [name.strip().lower() for name in raw]
    while header and not header[-1]:
        header.pop()
    if not header:
        raise IngestError(f"{path} has no header: put {','.join(columns)} into line {begins}")
    for name in (*columns, *optional):
        if header.count(name) > 1:
            raise IngestError(f"{path}: column {name} stands twice in line {begins}; keep one of them")
    missing = [name for name in columns if name not in header]
    if missing:
        raise IngestError(
            f"{path}: column {', '.join(missing)} missing in line {begins}, which has {', '.join(header)}; give each "
            "column its name"
        )
    for begins, raw in rows:
        if isinstance(raw, csv.Error):
            if not by_row:
                raise _broken(path, begins, raw)
            yield begins, {}, f"not valid CSV ({raw})"
            continue
        fields = ["" if field.strip() in MISSING else field.strip() for field in raw]
        while len(fields) > len(header) and not fields[-1]:
            fields.pop()
        if any(fields):
            yield begins, dict(zip(header, fields, strict=False)), _fault(fields, header)


def _rows(lines: list[str], start: int, delimiter: str) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Each row with the number of the line where it begins; where that is no CSV, the error, and on in the line below.

    Args:
        lines: All lines of a file.
        start: How many of them are skipped.
        delimiter: Parts the columns.
    """
    while start < len(lines):
        rest = map(lines.__getitem__, range(start, len(lines)))
        reader = csv.reader(rest, strict=True, delimiter=delimiter, skipinitialspace=True)
        begins = start + 1
        try:
            for raw in reader:
                yield begins, raw
                begins = start + reader.line_num + 1
            return
        except csv.Error as error:
            yield begins, error
            start = begins


def _broken(path: Path, row: int, error: csv.Error) -> IngestError:
    return IngestError(f"{path}: row {row} is not valid CSV ({error}); mend its quotes")


def _fault(fields: list[str], header: list[str]) -> str | None:
    if len(fields) != len(header):
        return f"wrong column count: {len(fields)} instead of {len(header)}"
    return NOT_TEXT if any(re.search("[\0\ud800-\udfff]", field) for field in fields) else None
