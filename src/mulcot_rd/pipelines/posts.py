"""Posts as nodes read them, and the check that records at hand were made from these posts."""

from collections.abc import Collection, Sequence
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
    Sentiment,
    Split,
    TeacherRecord,
    TrainingRow,
)
from mulcot_rd.teacher import QuarantinedPost, with_captions

MadeOfPost = TeacherRecord | ExpansionRecord | PredictionRecord | TrainingRow
RecordT = TypeVar("RecordT", TeacherRecord, ExpansionRecord, PredictionRecord)


def model_posts(posts: pd.DataFrame, captions: list[CaptionRecord], inputs: InputParameters) -> list[Post]:
    """All posts of the table, with captions where the models read a caption in place of the image.

    Args:
        posts: The posts table.
        captions: Captions of the images; those of some may be missing where nobody needs them.
        inputs: Whether the models read captions in place of images.

    Raises:
        UserError: If a caption is needed and missing.
    """
    rows = posts_from_frame(posts)
    return with_captions(rows, captions) if inputs.captions_needed else rows


def with_fingerprints(records: list[RecordT], posts: Sequence[Post]) -> list[RecordT]:
    """The records, each with the fingerprint of the post that it was made from."""
    fingerprints = {post.id: post_fingerprint(post) for post in posts}
    return [record.model_copy(update={"post_fingerprint": fingerprints[record.id]}) for record in records]


def check_made_from(
    posts: pd.DataFrame,
    split: Split,
    records: Sequence[MadeOfPost],
    file: str,
    pipeline: str,
    *,
    without: Collection[str] | None = None,
) -> None:
    """Refuse records that were made from other posts than those at hand. Call it before anything is made of both.

    Args:
        posts: The posts table.
        split: The split that the records are about.
        records: Each names its post and has that post's label and fingerprint (none in files of earlier versions).
        file: Name of the records' file, for the message.
        pipeline: The pipeline to run again from, for the message.
        without: Ids of the posts that need no record, such as those in quarantine; ``None``: any post may have none.

    Raises:
        StaleInputError: If a record's post is not in the split, or has another text, aspect, image or label there; or
            if a post has no record and needs one.
    """
    rows = {post.id: post for post in posts_from_frame(posts, split)}
    name = "training" if split == "train" else split
    about = set()
    for record in records:
        post_id, label = _post_of(record)
        about.add(post_id)
        post = rows.get(post_id)
        if post is None:
            fault = f"it names post {post_id}, which is not in the {name} split at hand"
        elif label != post.label or record.post_fingerprint not in (None, post_fingerprint(post)):
            fault = f"post {post_id} has another text, aspect, image or label now"
        else:
            continue
        raise _stale(file, pipeline, fault)
    about.update(without or ())
    missing = [] if without is None else [post_id for post_id in rows if post_id not in about]
    if missing:
        raise _stale(file, pipeline, f"it has no row of post {missing[0]}, which is in the {name} split at hand")


def check_teacher_reasoning(
    posts: pd.DataFrame, reasoning: list[TeacherRecord], quarantine: list[QuarantinedPost]
) -> None:
    """:func:`check_made_from` of the training split, in which every post has a reasoning or is in quarantine."""
    left_out = {post.id for post in quarantine}
    check_made_from(posts, "train", reasoning, "teacher_reasoning.jsonl", "teacher_annotation", without=left_out)


def check_training_set(posts: pd.DataFrame, rows: list[TrainingRow], quarantine: list[QuarantinedPost]) -> None:
    """The same of the student's training set, which has all of the teacher's reasonings (Eq. 8)."""
    left_out = {post.id for post in quarantine}
    check_made_from(posts, "train", rows, "student_training_set.jsonl", "teacher_annotation", without=left_out)


def check_answers(
    posts: pd.DataFrame,
    assistant_test: list[PredictionRecord],
    student_test: list[PredictionRecord],
    teacher_references: list[TeacherRecord],
) -> None:
    """:func:`check_made_from` of the test split, in which a model answers every post, or none: some variants lack it.

    Raises:
        StaleInputError: As :func:`check_made_from`.
    """
    check_made_from(posts, "test", teacher_references, "teacher_references.jsonl", "teacher_annotation")
    for name, records in (("assistant", assistant_test), ("student", student_test)):
        if records:
            check_made_from(posts, "test", records, f"{name}_test.jsonl", "evaluation", without=())


def _post_of(record: MadeOfPost) -> tuple[str, Sentiment | None]:
    """Id and gold label of a record's post; reasonings to train on come to the gold label (Eqs. 3, 4 and 7)."""
    if isinstance(record, TrainingRow):
        return record.post_id, record.reasoning.prediction
    return record.id, record.label


def _stale(file: str, pipeline: str, fault: str) -> StaleInputError:
    return StaleInputError(
        f"{file} was made from other posts than those at hand ({fault}): use the --params that it was made with "
        f"(limit), or run the pipelines from {pipeline} on again, with --params run=NAME to keep what this run has"
    )
