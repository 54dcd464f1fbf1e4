"""Nodes of the pipeline teacher_annotation."""

from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.credentials import Credentials
from mulcot_rd.frames import posts_from_frame
from mulcot_rd.metrics.summary import stage_one_scores
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
    """Caption the images that somebody reads the caption of: all for text-only models, else the teacher's, or none."""
    if captions_needed:
        captioned = posts_from_frame(posts)
    elif teacher.send == "caption":
        captioned = [*posts_from_frame(posts, "train"), *posts_from_frame(posts, "test")]
    else:
        return [], []
    captions = caption_images(
        [post.image for post in captioned], teacher, ledger, credentials.api_key(teacher.captions.base_url)
    )
    return captions.records, captions.quarantine


def annotate_posts(
    posts: pd.DataFrame,
    captions: list[CaptionRecord],
    teacher: TeacherParameters,
    credentials: Credentials,
    ledger: Path,
    run: RunParameters,
) -> tuple[list[TeacherRecord], list[TeacherRecord], list[QuarantinedPost], dict[str, Any], str]:
    """Let the teacher annotate the training split in two stages, write references on the test split, and report."""
    trained, referred = posts_from_frame(posts, "train"), posts_from_frame(posts, "test")
    if teacher.send == "caption":
        trained, referred = with_captions(trained, captions), with_captions(referred, captions)
    annotation = annotate(
        trained,
        referred,
        teacher,
        ledger,
        credentials.api_key(teacher.base_url),
    )
    stage_one = {
        split: stage_one_scores(verdicts.predictions, verdicts.labels, seed=run.seed)
        for split, verdicts in annotation.stage_one.items()
        if verdicts.labels
    }
    summary = {**annotation.summary, "stage_one": stage_one}
    report = teacher_report(summary, f"{run.dataset}, {run.name}")
    reasoning, references = (
        with_fingerprints(records, of)
        for records, of in ((annotation.reasoning, trained), (annotation.references, referred))
    )
    return reasoning, references, annotation.quarantine, summary, report
