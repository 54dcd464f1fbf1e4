"""What a user can set about reading raw data."""

from pydantic import Field

from mulcot_rd.files import UserPath
from mulcot_rd.schema import Record


class IngestParameters(Record):
    """Parameters of ingest (``ingest`` in the parameters files)."""

    max_rejected_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Largest share of raw rows that may be left out before the run stops (fraction, 0 to 1; own "
        "choice). Posts dropped by MVSA's label merge don't count.",
    )
    folder: str | None = Field(
        default=None,
        min_length=1,
        description="Name of the data set's folder below raw_dir; null: the data set's own name.",
    )
    split_seed: int = Field(
        default=42,
        ge=0,
        description="MVSA only: seed of the 8:1:1 split. Not the run's seed, so that runs of several seeds share their "
        "posts and can be compared.",
    )
    split_files: UserPath | None = Field(
        default=None,
        min_length=1,
        description="MVSA only: path of a folder with train.txt, dev.txt and test.txt, one post id a line, as seen "
        "from the working directory; null: a seeded 8:1:1 split (paper, Table 1).",
    )
