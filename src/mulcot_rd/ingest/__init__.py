"""Reading raw data sets: one reader a format, one result for all of them.

:func:`read_posts` reads; :func:`check_rejected_share` then says whether too much had to be left out.
"""

from mulcot_rd.ingest.parameters import IngestParameters
from mulcot_rd.ingest.read import DATASETS, read_posts, read_unchecked
from mulcot_rd.ingest.result import (
    LABEL_CONFLICT,
    LEFT_OUT_BY_DESIGN,
    NOT_IN_SPLIT_FILES,
    IngestError,
    IngestResult,
    check_rejected_share,
)

__all__ = [
    "DATASETS",
    "LABEL_CONFLICT",
    "LEFT_OUT_BY_DESIGN",
    "NOT_IN_SPLIT_FILES",
    "IngestError",
    "IngestParameters",
    "IngestResult",
    "check_rejected_share",
    "read_posts",
    "read_unchecked",
]
