"""Twitter-2015 and Twitter-2017 as distributed by TomBERT (Yu and Jiang, 2019): three TSV files and an image folder."""

from collections.abc import Iterator
from pathlib import Path

from mulcot_rd.ingest.lines import NOT_TEXT, tab_separated
from mulcot_rd.ingest.result import Candidate, IngestError, RawRow, require
from mulcot_rd.schema import SPLITS, Post, Rejected, Sentiment, Split

# Columns by position, since the header of test.tsv names one too few: index, label, image file, text, aspect.
COLUMNS = 5
LABELS = {"0": Sentiment.NEGATIVE, "1": Sentiment.NEUTRAL, "2": Sentiment.POSITIVE}
ASPECT_MARK = "$T$"


def read_rows(dataset: str, folder: Path) -> Iterator[RawRow]:
    """Read the rows of all three splits; images are not opened.

    The post id is ``<split>-<index>``. ``$T$`` in the text is replaced by the aspect.

    Args:
        dataset: ``twitter2015`` or ``twitter2017``.
        folder: Holds train.tsv, dev.tsv, test.tsv, and ``images/`` or ``<dataset>_images/``.

    Yields:
        Well-formed rows and rejected ones, in the order of the files.

    Raises:
        IngestError: If the folder, a TSV file or the image folder is missing, or a file lacks its header.
    """
    expected = f"train.tsv, dev.tsv, test.tsv and images/ (or {dataset}_images/) in {folder}"
    require(folder, dataset, expected, is_folder=True)
    files = {split: require(folder / f"{split}.tsv", dataset, expected) for split in SPLITS}
    image_folders = [folder / "images", folder / f"{dataset}_images"]
    images = next((path for path in image_folders if path.is_dir()), None)
    if images is None:
        raise IngestError(
            f"data set {dataset}: image folder not found: neither {image_folders[0]} nor {image_folders[1]} exists; "
            f"expected {expected}; the images are distributed apart from the TSV files: fetch them and put them there"
        )
    for split, path in files.items():
        for number, fields in tab_separated(path, header="index"):
            yield _row(split, str(number), fields, images)


def _row(split: Split, row: str, fields: list[str] | None, images: Path) -> RawRow:
    if fields is None:
        return Rejected(split=split, row=row, reason=NOT_TEXT)
    if len(fields) != COLUMNS:
        return Rejected(split=split, row=row, reason=f"wrong column count: {len(fields)} instead of {COLUMNS}")
    index, label, image, text, aspect = (field.strip() for field in fields)
    text = text.replace(ASPECT_MARK, aspect).strip()
    if label not in LABELS:
        return Rejected(split=split, row=row, reason=f"unknown label: {label!r} is none of {', '.join(LABELS)}")
    for name, value in (("index", index), ("image name", image), ("text", text), ("aspect", aspect)):
        if not value:
            return Rejected(split=split, row=row, reason=f"empty {name}")
    post = Post(
        id=f"{split}-{index}", split=split, text=text, aspect=aspect, image=str(images / image), label=LABELS[label]
    )
    return Candidate(row=row, post=post)
