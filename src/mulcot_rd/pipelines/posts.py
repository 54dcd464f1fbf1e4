"""Posts as assistant and student read them: from the table, with their captions where the models read text alone."""

import pandas as pd

from mulcot_rd.frames import posts_from_frame
from mulcot_rd.schema import CaptionRecord, Post
from mulcot_rd.teacher import with_captions


def model_posts(posts: pd.DataFrame, captions: list[CaptionRecord], captions_needed: bool) -> list[Post]:
    """All posts of the table.

    Args:
        posts: The posts table.
        captions: Captions of the images; those of some may be missing where nobody needs them.
        captions_needed: Whether the architecture's models read captions in place of images.

    Raises:
        UserError: If a caption is needed and missing.
    """
    rows = posts_from_frame(posts)
    return with_captions(rows, captions) if captions_needed else rows
