"""Lines of a tab-separated file, one by one, so that a damaged line costs itself alone."""

from collections.abc import Iterator
from pathlib import Path

from mulcot_rd.ingest.result import IngestError


def tab_separated(path: Path, header: str) -> Iterator[tuple[int, list[str] | None]]:
    r"""Read a tab-separated file without quote handling (as ``csv.QUOTE_NONE``): a tweet's quotes are text.

    Only ``\n`` and ``\r\n`` end a line, never the Unicode separators a tweet may hold. Blank lines are skipped.

    Args:
        path: A UTF-8 file whose first line is its header.
        header: The header's first column, in lower case.

    Yields:
        Line number as an editor shows it (the header is 1), and the fields; ``None`` where the line is not UTF-8.

    Raises:
        IngestError: If the first line is not the header.
    """
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    first = lines[0].split(b"\t")[0].strip().lower()
    if first != header.encode():
        raise IngestError(f"{path}: the first line should be the header that begins with {header!r}; put it back")
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        try:
            yield number, line.removesuffix(b"\r").decode("utf-8").split("\t")
        except UnicodeDecodeError:
            yield number, None
