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


def comma_separated(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str], str | None]]:
    """Read a CSV file in the usual quoting, as Excel, pandas and others write it.

    Commas, semicolons or tabs part the columns, whichever the header has most of, or what a first line such as
    ``sep=;`` says. Letter case and white space around the header's names don't matter, nor does white space around
    values, nor empty columns at the end. A value of :data:`MISSING` is an empty one. Rows without any value are
    skipped.

    Args:
        path: A UTF-8 file.
        columns: The columns that the header must have, in lower case.

    Yields:
        Number of the line where the row begins, the values by column, and what is wrong with the row as such, or
        ``None``.

    Raises:
        IngestError: If the file is not UTF-8, is empty, lacks a column or names it twice, or its quotes are broken
            (everything after them could be misread).
    """
    stream = io.StringIO(read_text(path, IngestError), newline="")
    first, skipped = stream.readline(), 1
    given = _SEPARATOR_LINE.fullmatch(first)
    if not given:
        stream.seek(0)
        skipped = 0
    delimiter = given[1] if given else max(_DELIMITERS, key=first.count)
    reader = csv.reader(stream, strict=True, delimiter=delimiter, skipinitialspace=True)
    begins = skipped + 1
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        while header and not header[-1]:
            header.pop()
        if not header:
            raise IngestError(f"{path} has no header: put {','.join(columns)} into line {begins}")
        for name in columns:
            if header.count(name) > 1:
                raise IngestError(f"{path}: column {name} stands twice in line {begins}; keep one of them")
        missing = [name for name in columns if name not in header]
        if missing:
            raise IngestError(f"{path}: column {', '.join(missing)} missing in line {begins}; add it to the header")
        begins = skipped + reader.line_num + 1
        for raw in reader:
            fields = ["" if field.strip() in MISSING else field.strip() for field in raw]
            while len(fields) > len(header) and not fields[-1]:
                fields.pop()
            if any(fields):
                yield begins, dict(zip(header, fields, strict=False)), _fault(fields, header)
            begins = skipped + reader.line_num + 1
    except csv.Error as error:
        raise IngestError(f"{path}: row {begins} is not valid CSV ({error}); mend its quotes") from error


def _fault(fields: list[str], header: list[str]) -> str | None:
    if len(fields) != len(header):
        return f"wrong column count: {len(fields)} instead of {len(header)}"
    return NOT_TEXT if any("\0" in field for field in fields) else None
