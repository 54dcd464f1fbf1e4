"""Reading a data set: its format's reader, then duplicate ids and images, which are the same for every format."""

from collections.abc import Iterable
from pathlib import Path

from mulcot_rd.images import image_problems
from mulcot_rd.ingest import mvsa, sample, twitter
from mulcot_rd.ingest.parameters import IngestParameters
from mulcot_rd.ingest.result import LEFT_OUT_BY_DESIGN, Candidate, IngestError, IngestResult, RawRow
from mulcot_rd.schema import SPLITS, Post, Rejected, length_fault

TWITTER = ("twitter2015", "twitter2017")
MVSA = tuple(mvsa.ANNOTATORS)
DATASETS = ("sample", *TWITTER, *MVSA)


def read_posts(dataset: str, raw_dir: Path, parameters: IngestParameters, seed: int) -> IngestResult:
    """Read a raw data set and open every image of it.

    Args:
        dataset: One of ``DATASETS``, or the name of any folder below ``raw_dir`` that holds a posts.csv.
        raw_dir: The folder of raw data; ``Post.image`` begins with it as it is given.
        parameters: Folder name, split files.
        seed: Seed of MVSA's 8:1:1 split.

    Returns:
        Good posts and rejected rows. Whether too many were rejected is for :func:`check_rejected_share` to say, so
        that the caller can write the reasons first.

    Raises:
        IngestError: If the data set is unknown, or a folder or file of it is missing or unreadable as a whole.
    """
    folder = raw_dir / (parameters.folder or dataset)
    rows = list(_read_rows(dataset, folder, parameters, seed))
    candidates = [row for row in rows if isinstance(row, Candidate)]
    faults = _long_texts(candidates)
    for split in SPLITS:
        of_split = [row for row in candidates if row.post.split == split and _key(row) not in faults]
        faults |= _broken_images(of_split, split)
    # Last: the first row of an id that can be used is kept.
    faults |= _duplicate_ids([row for row in candidates if _key(row) not in faults])
    good = [row.post for row in candidates if _key(row) not in faults]
    return IngestResult(
        posts=sorted(good, key=lambda post: SPLITS.index(post.split)),
        rejected=list(_rejected(rows, faults)),
        rows=sum(isinstance(row, Candidate) or not row.reason.startswith(LEFT_OUT_BY_DESIGN) for row in rows),
    )


def read_unchecked(dataset: str, raw_dir: Path, parameters: IngestParameters) -> list[Post]:
    """The posts of a raw data set without opening an image: some of them may be rejected later.

    Args:
        dataset: As for :func:`read_posts`.
        raw_dir: The folder of raw data.
        parameters: Folder name, split files, split seed.

    Raises:
        IngestError: As :func:`read_posts`.
    """
    rows = _read_rows(dataset, raw_dir / (parameters.folder or dataset), parameters, parameters.split_seed)
    return [row.post for row in rows if isinstance(row, Candidate)]


def _read_rows(dataset: str, folder: Path, parameters: IngestParameters, seed: int) -> Iterable[RawRow]:
    if dataset in MVSA:
        split_files = None if parameters.split_files is None else Path(parameters.split_files)
        return mvsa.read_rows(dataset, folder, split_files, seed)
    if parameters.split_files is not None:
        raise IngestError(
            f"data set {dataset}: ingest.split_files is for {' and '.join(MVSA)} alone, other data sets name the split "
            "of every post themselves; set it to null"
        )
    if dataset in TWITTER:
        return twitter.read_rows(dataset, folder)
    if dataset == "sample" or any(folder.glob(sample.POSTS_FILE)):
        return sample.read_rows(dataset, folder)
    raise IngestError(
        f"unknown data set {dataset!r}: known are {', '.join(DATASETS)}; a data set of your own needs the file "
        f"{folder / sample.POSTS_FILE} (columns {', '.join(sample.COLUMNS)}) and the folder {folder / 'images'}"
    )


def _key(row: Candidate | Rejected) -> tuple[str, str]:
    return (row.split if isinstance(row, Rejected) else row.post.split, row.row)


def _duplicate_ids(candidates: list[Candidate]) -> dict[tuple[str, str], str]:
    """Reasons of the rows whose id a row before them has, by split and row."""
    first: dict[str, Candidate] = {}
    faults = {}
    for row in candidates:
        earlier = first.setdefault(row.post.id, row)
        if earlier is not row:
            faults[_key(row)] = f"duplicate id: {row.post.id} is in row {earlier.row} ({earlier.post.split}) already"
    return faults


def _long_texts(candidates: list[Candidate]) -> dict[tuple[str, str], str]:
    return {_key(row): fault for row in candidates if (fault := length_fault("text", row.post.text))}


def _broken_images(candidates: list[Candidate], split: str) -> dict[tuple[str, str], str]:
    """Reasons of the rows of one split whose image can't be decoded, by split and row; each file is opened once."""
    problems = image_problems((row.post.image for row in candidates), f"opening images of {split}")
    return {_key(row): problem for row in candidates if (problem := problems[row.post.image]) is not None}


def _rejected(rows: list[RawRow], faults: dict[tuple[str, str], str]) -> Iterable[Rejected]:
    """Every row that was left out, in the order of the raw files."""
    for row in rows:
        if isinstance(row, Rejected):
            yield row
        elif (key := _key(row)) in faults:
            yield Rejected(split=key[0], row=key[1], reason=faults[key])
