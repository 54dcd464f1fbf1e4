"""The shipped sample, and any data set of the user's own in the same form: posts.csv and images/."""

import csv
from collections.abc import Iterator
from pathlib import Path

from mulcot_rd.ingest.result import Candidate, IngestError, RawRow, require
from mulcot_rd.schema import SPLITS, Post, Rejected, Sentiment

POSTS_FILE = "posts.csv"
COLUMNS = ("id", "split", "text", "aspect", "image", "label")


def read_rows(dataset: str, folder: Path) -> Iterator[RawRow]:
    """Read ``posts.csv``; images are not opened.

    The file is UTF-8 CSV in the usual quoting, with the columns ``id, split, text, aspect, image, label`` in any order
    (others are ignored). ``image`` is a file name below ``images/``. An empty aspect means a coarse-grained post.

    Args:
        dataset: Name of the data set.
        folder: Holds ``posts.csv`` and ``images/``.

    Yields:
        Well-formed rows and rejected ones, in the order of the file; ``row`` is the line where the row begins.

    Raises:
        IngestError: If the file or the image folder is missing, a column is missing, the file is not UTF-8, or its
            quotes are broken (everything after them could be misread).
    """
    expected = f"{POSTS_FILE} (columns {', '.join(COLUMNS)}) and images/ in {folder}"
    require(folder, dataset, expected, is_folder=True)
    path = require(folder / POSTS_FILE, dataset, expected)
    images = require(folder / "images", dataset, expected, is_folder=True)
    with path.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.reader(handle, strict=True)
        begins = 1
        try:
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in COLUMNS if name not in header]
            if missing:
                raise IngestError(f"{path}: column {', '.join(missing)} missing in line 1; add it to the header")
            begins = reader.line_num + 1
            for fields in reader:
                if fields:
                    yield _row(str(begins), header, fields, images)
                begins = reader.line_num + 1
        except csv.Error as error:
            raise IngestError(f"{path}: row {begins} is not valid CSV ({error}); mend its quotes") from error
        except UnicodeDecodeError as error:
            raise IngestError(f"{path}: not UTF-8 at or after row {begins}; save the file as UTF-8") from error


def _row(row: str, header: list[str], fields: list[str], images: Path) -> RawRow:
    if len(fields) != len(header):
        reason = f"wrong column count: {len(fields)} instead of {len(header)}"
        split = fields[header.index("split")] if len(fields) > header.index("split") else ""
        return Rejected(split=split, row=row, reason=reason)
    values = {name: value.strip() for name, value in zip(header, fields, strict=True)}
    split, label = values["split"], values["label"].lower()
    if split not in SPLITS:
        return Rejected(split=split, row=row, reason=f"unknown split: {split!r} is none of {', '.join(SPLITS)}")
    if label not in set(Sentiment):
        return Rejected(split=split, row=row, reason=f"unknown label: {label!r} is none of {', '.join(Sentiment)}")
    for name in ("id", "text", "image"):
        if not values[name]:
            return Rejected(split=split, row=row, reason=f"empty {name}")
    post = Post(
        id=values["id"],
        split=split,
        text=values["text"],
        aspect=values["aspect"] or None,
        image=str(images / values["image"]),
        label=Sentiment(label),
    )
    return Candidate(row=row, post=post)
