"""Reading a data set: its format's reader, then duplicate ids and images, which are the same for every format."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from mulcot_rd.images import ImageError, load_image
from mulcot_rd.ingest import mvsa, sample, twitter
from mulcot_rd.ingest.parameters import IngestParameters
from mulcot_rd.ingest.result import LEFT_OUT_BY_DESIGN, Candidate, IngestError, IngestResult, RawRow
from mulcot_rd.progress import progress
from mulcot_rd.schema import SPLITS, Post, Rejected

TWITTER = ("twitter2015", "twitter2017")
MVSA = tuple(mvsa.ANNOTATORS)
DATASETS = ("sample", *TWITTER, *MVSA)

# Rows whose images are handed to the thread pool together; the progress bar moves once for each such batch.
BATCH = 64


def read_posts(dataset: str, raw_dir: Path, parameters: IngestParameters, seed: int, limit: int | None) -> IngestResult:
    """Read a raw data set and open every image of it.

    Args:
        dataset: One of ``DATASETS``, or the name of any folder below ``raw_dir`` that holds a posts.csv.
        raw_dir: The folder of raw data; ``Post.image`` begins with it as it is given.
        parameters: Folder name, split files.
        seed: Seed of MVSA's 8:1:1 split.
        limit: Good posts a split, or ``None`` for all. Once a split has them no more of its images are opened; rows
            whose fault is not the image are listed all the same.

    Returns:
        Good posts and rejected rows. Whether too many were rejected is for :func:`check_rejected_share` to say, so
        that the caller can write the reasons first.

    Raises:
        IngestError: If the data set is unknown, or a folder or file of it is missing or unreadable as a whole.
    """
    folder = raw_dir / (parameters.folder or dataset)
    rows = list(_read_rows(dataset, folder, parameters, seed))
    candidates = [row for row in rows if isinstance(row, Candidate)]
    faults = _duplicate_ids(candidates)
    posts: list[Post] = []
    opened = 0
    for split in SPLITS:
        of_split = [row for row in candidates if row.post.split == split and _key(row) not in faults]
        good, broken, count = _open_images(of_split, split, limit)
        posts += good
        faults |= broken
        opened += count
    return IngestResult(
        posts=posts,
        rejected=list(_rejected(rows, faults)),
        rows=sum(isinstance(row, Candidate) or not row.reason.startswith(LEFT_OUT_BY_DESIGN) for row in rows),
        opened=opened,
    )


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
    if dataset in DATASETS or (folder / sample.POSTS_FILE).is_file():
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


def _open_images(
    candidates: list[Candidate], split: str, limit: int | None
) -> tuple[list[Post], dict[tuple[str, str], str], int]:
    """Decode the images of one split, each file once, until ``limit`` posts are good.

    Returns:
        The good posts, the reasons of the others by split and row, and the number of rows looked at.
    """
    posts: list[Post] = []
    faults: dict[tuple[str, str], str] = {}
    problems: dict[str, str | None] = {}
    remaining = iter(candidates)
    total = len(candidates) if limit is None else min(limit, len(candidates))
    # Decoding is native code that lets other threads run: two cores are twice as fast as one.
    with (
        ThreadPoolExecutor(max_workers=os.cpu_count()) as pool,
        progress(total=total, desc=f"opening images of {split}", unit="post") as bar,
    ):
        while batch := list(islice(remaining, BATCH if limit is None else min(BATCH, limit - len(posts)))):
            new = list(dict.fromkeys(row.post.image for row in batch if row.post.image not in problems))
            problems.update(zip(new, pool.map(_image_problem, new), strict=True))
            for row in batch:
                problem = problems[row.post.image]
                if problem is None:
                    posts.append(row.post)
                else:
                    faults[_key(row)] = problem
            bar.update(len(batch) if limit is None else len(posts) - bar.n)
    return posts, faults, len(posts) + len(faults)


def _image_problem(path: str) -> str | None:
    try:
        load_image(path)
    except ImageError as error:
        return str(error)
    return None


def _rejected(rows: list[RawRow], faults: dict[tuple[str, str], str]) -> Iterable[Rejected]:
    """Every row that was left out, in the order of the raw files."""
    for row in rows:
        if isinstance(row, Rejected):
            yield row
        elif (key := _key(row)) in faults:
            yield Rejected(split=key[0], row=key[1], reason=faults[key])
