"""MVSA is distributed without splits: the seeded 8:1:1 split, or lists of ids that the user gives."""

import random
from pathlib import Path

from mulcot_rd.files import read_text
from mulcot_rd.ingest.result import IngestError
from mulcot_rd.schema import SPLITS, Split


def assign_splits(ids: set[str], split_files: Path | None, seed: int) -> dict[str, Split]:
    """The split of every post id.

    Args:
        ids: The ids of all posts that have a label.
        split_files: Folder with train.txt, dev.txt and test.txt, one id a line, or ``None`` for the seeded split.
        seed: Seed of that split.

    Returns:
        Split by id; ids that no split file names are absent.

    Raises:
        IngestError: If a split file is missing, or an id stands in two of them.
    """
    return seeded_split(ids, seed) if split_files is None else _read_split_files(split_files)


def seeded_split(ids: set[str], seed: int) -> dict[str, Split]:
    """Split ids 8:1:1, as a function of the ids and the seed alone.

    Train gets the whole part of 0.8 N, dev of 0.1 N, test the rest: 3608/451/452 of MVSA-Single's 4511 (Table 1).
    """
    shuffled = sorted(ids)
    random.Random(seed).shuffle(shuffled)
    train, dev = len(ids) * 8 // 10, len(ids) // 10
    bounds: dict[Split, slice] = {
        "train": slice(0, train),
        "dev": slice(train, train + dev),
        "test": slice(train + dev, None),
    }
    return {post_id: split for split, part in bounds.items() for post_id in shuffled[part]}


def _read_split_files(folder: Path) -> dict[str, Split]:
    splits: dict[str, Split] = {}
    for split in SPLITS:
        path = folder / f"{split}.txt"
        if not path.is_file():
            raise IngestError(
                f"split file not found: {path}; ingest.split_files should name a folder with train.txt, dev.txt and "
                "test.txt, one post id a line (or be null for a seeded 8:1:1 split)"
            )
        for number, line in enumerate(read_text(path, IngestError).split("\n"), start=1):
            post_id = line.strip()
            if not post_id:
                continue
            if splits.get(post_id, split) != split:
                raise IngestError(
                    f"{path}: line {number}: id {post_id} stands in {splits[post_id]}.txt too; keep it in one split"
                )
            splits[post_id] = split
    return splits
