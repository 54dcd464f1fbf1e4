"""Nodes of the pipeline teacher_annotation."""

from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.credentials import Credentials, recorded
from mulcot_rd.frames import posts_from_frame
from mulcot_rd.metrics.labels import stage_one_scores
from mulcot_rd.parameters import RunParameters
from mulcot_rd.pipelines.posts import with_fingerprints
from mulcot_rd.schema import CaptionRecord, TeacherRecord
from mulcot_rd.teacher import (
    QuarantinedImage,
    QuarantinedPost,
    TeacherParameters,
    annotate,
    caption_images,
    with_captions,
)
from mulcot_rd.teacher.summary import teacher_report


def caption_posts(
    posts: pd.DataFrame, teacher: TeacherParameters, captions_needed: bool, credentials: Credentials, ledger: Path
) -> tuple[list[CaptionRecord], list[QuarantinedImage]]:
    """Caption the images for text-only models (Appendix G).

    All images get a caption where assistant and student read captions, those of train and test where the teacher alone
    does, and none where nobody does.
    """
    if captions_needed:
        captioned = posts_from_frame(posts)
    elif teacher.send == "caption":
        captioned = [*posts_from_frame(posts, "train"), *posts_from_frame(posts, "test")]
    else:
        return [], []
    images = [post.image for post in captioned]
    return caption_images(images, teacher, ledger, credentials.api_key(teacher.captions.base_url))


def annotate_posts(
    posts: pd.DataFrame,
    captions: list[CaptionRecord],
    teacher: TeacherParameters,
    credentials: Credentials,
    ledger: Path,
    run: RunParameters,
) -> tuple[list[TeacherRecord], list[TeacherRecord], list[TeacherRecord], list[QuarantinedPost], dict[str, Any], str]:
    """Let the teacher reason about the training split in two stages (Section 3.2, Eqs. 2 to 4).

    Stage one predicts and reasons. Posts that it gets wrong go to stage two, where the teacher is told the gold label;
    what stage one wrote of them is for preference pairs.
    On the test split stage one alone writes references for the reasoning metrics, which nothing is trained on.
    """
    train, test = posts_from_frame(posts, "train"), posts_from_frame(posts, "test")
    if teacher.send == "caption":
        train, test = with_captions(train, captions), with_captions(test, captions)
    annotation = annotate(train, test, teacher, ledger, credentials.api_key(teacher.base_url))
    stage_one = {
        split: stage_one_scores(predictions, labels, seed=run.seed)
        for split, (predictions, labels) in annotation.stage_one.items()
        if labels
    }
    summary = {**annotation.summary, "stage_one": stage_one, "config": recorded(teacher, exclude={"prices"})}
    report = teacher_report(summary, f"{run.dataset}, {run.name}")
    reasoning = with_fingerprints(annotation.reasoning, train)
    rejected = with_fingerprints(annotation.rejected, train)
    references = with_fingerprints(annotation.references, test)
    return reasoning, rejected, references, annotation.quarantine, summary, report
