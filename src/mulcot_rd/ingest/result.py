"""What readers hand over, what ingest hands over, and when too much was left out."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mulcot_rd.errors import UserError
from mulcot_rd.ingest.parameters import IngestParameters
from mulcot_rd.schema import SPLITS, Post, Rejected, Split

# How the reasons of posts begin that are left out by design and not because the data is damaged. They are listed in
# rejected.csv with the others and don't count toward max_rejected_share.
LABEL_CONFLICT = "label conflict"
NOT_IN_SPLIT_FILES = "in no split file"
LEFT_OUT_BY_DESIGN = (LABEL_CONFLICT, NOT_IN_SPLIT_FILES)

# The split that is named for a row which is left out before it has one.
NO_SPLIT = "unassigned"


class IngestError(UserError):
    """Raw data that can't be used; the message says what, where, and the cure."""


@dataclass(frozen=True)
class Candidate:
    """A row that is well formed as far as its text goes; its image has not been opened yet."""

    row: str
    post: Post


RawRow = Candidate | Rejected


@dataclass(frozen=True)
class IngestResult:
    """What was read of a data set.

    Attributes:
        posts: Good posts in the order of SPLITS, within a split in the order of the raw file.
        rejected: Every row that was left out, with the reason.
        rows: Raw rows that were read, without those left out by design.
    """

    posts: list[Post]
    rejected: list[Rejected]
    rows: int

    @property
    def damaged(self) -> list[Rejected]:
        """The rejected rows that count toward ``max_rejected_share``."""
        return [row for row in self.rejected if not row.reason.startswith(LEFT_OUT_BY_DESIGN)]

    @property
    def rejected_share(self) -> float:
        """Share of damaged rows (fraction, 0 to 1); 1 where no row is good."""
        return len(self.damaged) / self.rows if self.posts else 1.0


def check_rejected_share(
    result: IngestResult, parameters: IngestParameters, dataset: str, needed: Sequence[Split] = SPLITS
) -> None:
    """Refuse a result that left out too much. Call it after the rejected rows have been written.

    Args:
        result: What was read.
        parameters: Hold the share.
        dataset: Its name, for the message.
        needed: Splits that must have a post.

    Raises:
        IngestError: If more than ``max_rejected_share`` of the rows were rejected, a split is left without a
            post, or there are no rows.
    """
    if not result.rows and not result.rejected:
        raise IngestError(f"data set {dataset} has no rows: its files hold headers at most; put the posts into them")
    where = f"every reason is in rejected.csv (03_primary/{dataset} below results_root)"
    # Rounding: a share that equals the threshold must pass whatever order the floats were multiplied in.
    if round(result.rejected_share - parameters.max_rejected_share, 12) > 0:
        kinds = Counter(row.reason.split(":")[0] for row in result.damaged or result.rejected)
        frequent = ", ".join(f"{reason} ({count})" for reason, count in kinds.most_common(3))
        raise IngestError(
            f"data set {dataset}: {result.rejected_share:.1%} of the rows were rejected, more than "
            f"ingest.max_rejected_share = {parameters.max_rejected_share:.1%}; most frequent: {frequent}; {where}: "
            "mend the data, or if the rest is enough, run with --params ingest.max_rejected_share="
            f"{math.ceil(100 * result.rejected_share) / 100:g}"
        )
    for split in needed:
        if all(post.split != split for post in result.posts):
            raise IngestError(
                f"data set {dataset}: the split {split} has no usable post; training needs train, dev and test, and a "
                f"student of another run (student_run) test alone; {where}"
            )


def require(path: Path, dataset: str, expected: str, *, is_folder: bool = False) -> Path:
    """The path itself, if it is there.

    Args:
        path: The file or folder that a reader needs.
        dataset: Name of the data set, for the message.
        expected: What the data set's folder should hold, for the message.
        is_folder: Whether a folder is wanted.

    Raises:
        IngestError: If it is missing or can't be looked at; the message says what was looked for and the cure.
    """
    what = "folder" if is_folder else "file"
    try:
        if path.is_dir() if is_folder else path.is_file():
            return path
    except OSError as problem:
        raise IngestError(f"data set {dataset}: {what} can't be read ({problem.strerror}): {path}") from problem
    raise IngestError(
        f"data set {dataset}: {what} not found: {path}; expected {expected}; put the data there, or set raw_dir (and "
        "ingest.folder, the folder's name below it) to where it is"
    )
