"""Nodes of the pipeline data_preparation."""

import logging
from pathlib import Path

import pandas as pd

from mulcot_rd.frames import posts_to_frame, rejected_to_frame
from mulcot_rd.ingest import IngestParameters, IngestResult, check_rejected_share, read_posts
from mulcot_rd.parameters import RunParameters
from mulcot_rd.schema import SPLITS

logger = logging.getLogger(__name__)


def read_raw(run: RunParameters, ingest: IngestParameters) -> tuple[IngestResult, pd.DataFrame]:
    """Read the raw data set: its posts, and the rows that had to be left out, which are saved whatever comes next."""
    result = read_posts(run.dataset, Path(run.raw_dir), ingest, ingest.split_seed)
    return result, rejected_to_frame(result.rejected)


def accept_posts(
    result: IngestResult, rejected: pd.DataFrame, run: RunParameters, ingest: IngestParameters
) -> pd.DataFrame:
    """Take the posts over as a table, unless too large a share of the rows was rejected.

    The student of another run needs test posts alone.
    """
    check_rejected_share(result, ingest, run.dataset, SPLITS if run.trained_on is None else ("test",))
    logger.info(
        "%s: %d posts; %d of %d rows could not be used, rejected.csv says why",
        run.dataset,
        len(result.posts),
        len(rejected),
        result.rows,
    )
    return posts_to_frame(result.posts)
