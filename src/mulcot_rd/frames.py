"""Posts as a table and back: parquet files hold tables, the code works on records."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.schema import Post, Rejected, Split

POST_COLUMNS = ["id", "split", "text", "aspect", "image", "label"]
REJECTED_COLUMNS = list(Rejected.model_fields)


def posts_to_frame(posts: list[Post]) -> pd.DataFrame:
    """One row a post, columns id, split, text, aspect (null where there is none), image, label."""
    frame = pd.DataFrame([post.model_dump(mode="json", exclude={"caption"}) for post in posts], columns=POST_COLUMNS)
    return frame.astype(dict.fromkeys(POST_COLUMNS, "string"))


def posts_from_frame(frame: pd.DataFrame, split: Split | None = None) -> list[Post]:
    """The posts of a table, or those of one split, in order.

    Raises:
        ValueError: If a row is not a post; the message names the row.
    """
    posts = []
    for number, row in enumerate(frame.to_dict("records")):
        if split is not None and row["split"] != split:
            continue
        try:
            posts.append(Post(**{**row, "aspect": None if pd.isna(row["aspect"]) else row["aspect"]}))
        except ValueError as error:
            raise ValueError(f"row {number} of the posts table is not a post: {error}") from error
    return posts


def post_fingerprint(post: Post) -> str:
    """A hash of what a post says and where it stands; not of its image's folder or its caption."""
    return fingerprint(post.id, post.split, post.text, post.aspect, Path(post.image).name, post.label)


def posts_fingerprint(posts: Sequence[Post]) -> str:
    """A hash of posts and their order."""
    return fingerprint([post_fingerprint(post) for post in posts])


def rejected_to_frame(rejected: list[Rejected]) -> pd.DataFrame:
    """One row a raw row that was left out."""
    return pd.DataFrame([row.model_dump() for row in rejected], columns=REJECTED_COLUMNS)
