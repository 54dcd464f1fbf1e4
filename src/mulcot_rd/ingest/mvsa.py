"""MVSA-Single and MVSA-Multiple as distributed: labelResultAll.txt, data/ID.jpg and data/ID.txt.

The labels of text and image, and of one or three annotators, are merged into one label a post in the usual way:

1. In each modality the label that more than half of the annotators gave; if there is none, the post is dropped.
2. Text and image agree: that label. One of them is neutral: the other's label. Positive against negative: the post is
   dropped.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mulcot_rd.files import read_bytes
from mulcot_rd.ingest.lines import NOT_TEXT, tab_separated
from mulcot_rd.ingest.mvsa_splits import assign_splits
from mulcot_rd.ingest.result import (
    LABEL_CONFLICT,
    NO_SPLIT,
    NOT_IN_SPLIT_FILES,
    Candidate,
    IngestError,
    RawRow,
    require,
)
from mulcot_rd.schema import Post, Rejected, Sentiment

ANNOTATORS = {"mvsa_single": 1, "mvsa_multiple": 3}
LABEL_FILE = "labelResultAll.txt"


class _RowError(ValueError):
    """Why one row is left out."""


def merge_labels(pairs: list[tuple[Sentiment, Sentiment]]) -> Sentiment | None:
    """The one label of a post, by the usual merge (module docstring).

    Args:
        pairs: The (text, image) labels, one pair an annotator.

    Returns:
        The merged label, or ``None`` if the annotators or the modalities contradict each other.
    """
    text, image = (_majority(list(labels)) for labels in zip(*pairs, strict=True))
    if text is None or image is None or {text, image} == {Sentiment.POSITIVE, Sentiment.NEGATIVE}:
        return None
    return image if text is Sentiment.NEUTRAL else text


def read_text(path: Path) -> str:
    """The text of a post, whatever its encoding.

    MVSA mixes encodings from file to file and doesn't say which: UTF-8 (with or without a byte order mark) is tried
    first, as other encodings' accented text is almost never valid UTF-8; then Windows-1252, in which most of the rest
    is; then Latin-1 for the five bytes that Windows-1252 leaves undefined, and that reads any byte.

    Raises:
        IngestError: If the file can't be opened, or is no text.
    """
    raw = read_bytes(path, IngestError)
    if b"\0" in raw:
        raise IngestError(f"{path} holds NUL bytes: save it as UTF-8")
    for encoding in ("utf-8", "cp1252"):
        try:
            return raw.decode(encoding).strip()
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1").strip()


def read_rows(dataset: str, folder: Path, split_files: Path | None, seed: int) -> Iterator[RawRow]:
    """Read label file and texts, merge the labels, split the posts; images are not opened.

    Args:
        dataset: ``mvsa_single`` or ``mvsa_multiple``.
        folder: Holds labelResultAll.txt and data/.
        split_files: Folder with train.txt, dev.txt and test.txt, or ``None`` for the seeded 8:1:1 split.
        seed: Seed of that split.

    Yields:
        Well-formed rows and rejected ones, in the order of the label file; ``row`` is the line number there.

    Raises:
        IngestError: If a file or folder is missing, the label file lacks its header, or the split files overlap.
    """
    expected = f"{LABEL_FILE} and data/ (with ID.jpg and ID.txt for every post) in {folder}"
    require(folder, dataset, expected, is_folder=True)
    labels = require(folder / LABEL_FILE, dataset, expected)
    data = require(folder / "data", dataset, expected, is_folder=True)
    rows: list[tuple[str, str, Sentiment] | Rejected] = []
    for number, fields in tab_separated(labels, header="id"):
        row = str(number)
        try:
            rows.append((row, *_labelled_id(fields, ANNOTATORS[dataset])))
        except _RowError as problem:
            rows.append(Rejected(split=NO_SPLIT, row=row, reason=str(problem)))
    # The split depends on ids and labels alone: a broken image or text moves no other post to another split.
    labelled = {row[1] for row in rows if not isinstance(row, Rejected)}
    splits = assign_splits(labelled, split_files, seed)
    names = {path.name for path in data.glob("*.txt")}
    for entry in rows:
        if isinstance(entry, Rejected):
            yield entry
            continue
        row, post_id, label = entry
        split = splits.get(post_id)
        if split is None:
            yield Rejected(split=NO_SPLIT, row=row, reason=f"{NOT_IN_SPLIT_FILES}: id {post_id}")
            continue
        try:
            text = _text_of(post_id, data, names)
        except _RowError as problem:
            yield Rejected(split=split, row=row, reason=str(problem))
            continue
        image = str(data / f"{post_id}.jpg")
        yield Candidate(row=row, post=Post(id=post_id, split=split, text=text, aspect=None, image=image, label=label))
    for post_id, split in splits.items():
        if post_id not in labelled:
            reason = f"no label: listed in {split}.txt, but {LABEL_FILE} gives it none"
            yield Rejected(split=split, row=f"id {post_id}", reason=reason)


def _text_of(post_id: str, data: Path, names: set[str]) -> str:
    """The text of a post from one of the text files in ``data`` whose names are given."""
    path = data / f"{post_id}.txt"
    # Looked up among the names: an id may be longer than a file's name, or lead out of the folder.
    if f"{post_id}.txt" not in names:
        raise _RowError(f"text file not found: {path}")
    try:
        text = read_text(path)
    except IngestError as problem:
        raise _RowError(f"text can't be read: {problem}") from problem
    if not text:
        raise _RowError("empty text")
    return text


def _labelled_id(fields: list[str] | None, annotators: int) -> tuple[str, Sentiment]:
    if fields is None:
        raise _RowError(NOT_TEXT)
    if len(fields) != 1 + annotators:
        raise _RowError(f"wrong column count: {len(fields)} instead of {1 + annotators}")
    post_id, *pairs = (field.strip() for field in fields)
    if not post_id:
        raise _RowError("empty id")
    merged = merge_labels([_pair(pair) for pair in pairs])
    if merged is None:
        raise _RowError(f"{LABEL_CONFLICT}: {' '.join(pairs)} (text,image by annotator)")
    return post_id, merged


def _pair(field: str) -> tuple[Sentiment, Sentiment]:
    names = [name.strip().lower() for name in field.split(",")]
    if len(names) != 2 or any(name not in set(Sentiment) for name in names):
        raise _RowError(f"unknown label: {field!r} is not two of {', '.join(Sentiment)}")
    return Sentiment(names[0]), Sentiment(names[1])


def _majority(labels: list[Sentiment]) -> Sentiment | None:
    label, count = Counter(labels).most_common(1)[0]
    return label if 2 * count > len(labels) else None
