"""The shipped sample, and any data set of the user's own in the same form: posts.csv and images/."""

from collections.abc import Iterator
from pathlib import Path

from mulcot_rd.ingest.lines import comma_separated
from mulcot_rd.ingest.result import Candidate, RawRow, require
from mulcot_rd.schema import SPLITS, Post, Rejected, Sentiment

POSTS_FILE = "posts.csv"
COLUMNS = ("id", "split", "text", "aspect", "image", "label")


def read_rows(dataset: str, folder: Path) -> Iterator[RawRow]:
    """Read ``posts.csv``; images are not opened.

    The file is CSV as :func:`~mulcot_rd.ingest.lines.comma_separated` takes it, with the columns ``id, split, text,
    aspect, image, label`` in any order (others are ignored). ``image`` is a file name below ``images/``. An empty
    aspect means a coarse-grained post.

    Args:
        dataset: Name of the data set.
        folder: Holds ``posts.csv`` and ``images/``.

    Yields:
        Well-formed rows and rejected ones, in the order of the file; ``row`` is the line where the row begins.

    Raises:
        IngestError: If the file or the image folder is missing, or the file can't be read as a whole.
    """
    expected = f"{POSTS_FILE} (columns {', '.join(COLUMNS)}) and images/ in {folder}"
    require(folder, dataset, expected, is_folder=True)
    path = require(folder / POSTS_FILE, dataset, expected)
    images = require(folder / "images", dataset, expected, is_folder=True)
    for number, values, fault in comma_separated(path, COLUMNS):
        yield _row(str(number), values, fault, images)


def _row(row: str, values: dict[str, str], fault: str | None, images: Path) -> RawRow:
    split = values.get("split", "").lower()
    if fault is not None:
        return Rejected(split=split, row=row, reason=fault)
    label = values["label"].lower()
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
        # A path that was written on Windows.
        image=str(images / values["image"].replace("\\", "/")),
        label=Sentiment(label),
    )
    return Candidate(row=row, post=post)
