"""Posts as nodes read them, after the check that the records at hand were made from these posts."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import pandas as pd

from mulcot_rd.errors import StaleInputError
from mulcot_rd.frames import post_fingerprint, posts_from_frame
from mulcot_rd.parameters import InputParameters
from mulcot_rd.schema import (
    CaptionRecord,
    ExpansionRecord,
    Post,
    PredictionRecord,
    PreferencePair,
    Sentiment,
    Split,
    TeacherRecord,
    TrainingRow,
)
from mulcot_rd.teacher import QuarantinedPost, with_captions

# Records that were made from posts, by their name in the catalog; files of earlier versions have no fingerprints.
MadeOfPost = TeacherRecord | ExpansionRecord | PredictionRecord | TrainingRow | PreferencePair
PostRecords = Mapping[str, Sequence[MadeOfPost]]
RecordT = TypeVar("RecordT", TeacherRecord, ExpansionRecord, PredictionRecord, PreferencePair)

# The split that the records are about, the pipeline to run again from, and whether every post of the split has one.
_SOURCES: dict[str, tuple[Split, str, bool]] = {
    "teacher_reasoning": ("train", "teacher_annotation", True),
    "assistant_reasoning": ("train", "data_expansion", False),
    "student_training_set": ("train", "teacher_annotation", True),
    "teacher_rejected": ("train", "teacher_annotation", False),
    "assistant_rejected": ("train", "data_expansion", False),
    "student_samples": ("train", "preference_pairs", False),
    "preference_pairs": ("train", "preference_pairs", False),
    "teacher_references": ("test", "teacher_annotation", False),
    "assistant_test": ("test", "evaluation", True),
    "student_test": ("test", "evaluation", True),
    "student_preference_test": ("test", "evaluation", True),
}


def model_posts(
    posts: pd.DataFrame,
    captions: list[CaptionRecord],
    inputs: InputParameters,
    records: PostRecords | None = None,
    quarantine: Sequence[QuarantinedPost] | None = None,
) -> list[Post]:
    """:func:`checked_posts`, with captions where the models read a caption in place of the image.

    Raises:
        StaleInputError: As :func:`checked_posts`.
        UserError: If a caption is needed and missing.
    """
    rows = checked_posts(posts, records or {}, quarantine)
    return with_captions(rows, captions) if inputs.captions_needed else rows


def checked_posts(
    posts: pd.DataFrame, records: PostRecords, quarantine: Sequence[QuarantinedPost] | None = None
) -> list[Post]:
    """All posts of the table; records that were made from other posts are refused.

    Args:
        posts: The posts table.
        records: What will be used with the posts. Predictions may be empty: some variants lack a model.
        quarantine: Posts that need no record; ``None``: any post may have none.

    Raises:
        StaleInputError: If a record's post is not in its split, or has another text, aspect, image or label there; or
            if a post has no record and needs one.
    """
    rows = posts_from_frame(posts)
    for name, made in records.items():
        split, pipeline, complete = _SOURCES[name]
        rows_needed = complete and quarantine is not None and (made or split == "train")
        left_out = {post.id for post in quarantine or ()}
        of_split = {post.id: post for post in rows if post.split == split}
        place = f"the {'training' if split == 'train' else split} split at hand"
        fault = _fault(of_split, made, place, left_out if rows_needed else None)
        if fault:
            raise StaleInputError(
                f"{name}.jsonl was made from other posts than those at hand ({fault}): use the --params that it was "
                f"made with (limit), or run the pipelines from {pipeline} on again, with --params run=NAME to keep "
                "what this run has"
            )
    return rows


def with_fingerprints(records: list[RecordT], posts: Sequence[Post]) -> list[RecordT]:
    """The records, each with the fingerprint of the post that it was made from."""
    fingerprints = {post.id: post_fingerprint(post) for post in posts}
    return [record.model_copy(update={"post_fingerprint": fingerprints[_post_id(record)]}) for record in records]


def _post_id(record: MadeOfPost) -> str:
    return record.post_id if isinstance(record, TrainingRow | PreferencePair) else record.id


def _label(record: MadeOfPost) -> Sentiment | None:
    """The gold label that a record was made with; ``None`` where it has none."""
    if isinstance(record, PreferencePair):
        return None
    # Reasonings to train on come to the gold label (Eqs. 3, 4 and 7).
    return record.reasoning.prediction if isinstance(record, TrainingRow) else record.label


def _fault(posts: dict[str, Post], records: Sequence[MadeOfPost], place: str, without: set[str] | None) -> str | None:
    """How records and posts differ, or ``None``. Posts ``without`` a record are those that need none; ``None``: all."""
    about = set()
    for record in records:
        post_id = _post_id(record)
        about.add(post_id)
        post = posts.get(post_id)
        if post is None:
            return f"it names post {post_id}, which is not in {place}"
        if _label(record) not in (None, post.label) or record.post_fingerprint not in (None, post_fingerprint(post)):
            return f"post {post_id} has another text, aspect, image or label now"
    if without is None:
        return None
    missing = [post_id for post_id in posts if post_id not in about and post_id not in without]
    return f"it has no row of post {missing[0]}, which is in {place}" if missing else None
