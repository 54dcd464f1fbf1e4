"""Nodes of the pipeline data_expansion."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.credentials import Credentials, recorded
from mulcot_rd.generation import AnsweringJob, kept_answers
from mulcot_rd.kept import Kept
from mulcot_rd.models.loaded import StoredModel
from mulcot_rd.pipelines.posts import checked_posts, model_posts, with_fingerprints
from mulcot_rd.schema import CaptionRecord, ExpansionRecord, TeacherRecord, TrainingRow
from mulcot_rd.teacher import QuarantinedPost
from mulcot_rd.training.expansion import (
    expansion_statistics,
    keep_correct,
    no_expansion,
    student_rows,
    wrong_reasonings,
)
from mulcot_rd.training.manifest import check_fits
from mulcot_rd.training.parameters import ModelParameters
from mulcot_rd.training.soft_label_writing import assistant_soft_labels
from mulcot_rd.training.soft_labels import NoSoftLabels, SoftLabelParameters, SoftLabels

logger = logging.getLogger(__name__)


def write_assistant_reasoning(
    posts: pd.DataFrame,
    captions: list[CaptionRecord],
    adapter: dict[str, Any],
    assistant: ModelParameters,
    credentials: Credentials,
    workspace: Path,
) -> tuple[list[ExpansionRecord], list[ExpansionRecord], dict[str, Any]]:
    """Let the trained assistant reason about the training split; keep what reaches the gold label (Eq. 7).

    A variant with faithful expansion keeps fewer of them; one whose assistant does not reason, or that has none, keeps
    nothing. The complete reasonings that reach another label are for preference pairs.
    """
    all_posts = model_posts(posts, captions, assistant.inputs)
    training_posts = [post for post in all_posts if post.split == "train"]
    if not assistant.method.expands:
        return [], [], no_expansion(training_posts)
    check_fits(adapter, all_posts, assistant)
    job = AnsweringJob(
        model=StoredModel.of(adapter, assistant.backbone),
        posts=training_posts,
        tasks=["reasoning"],
        parameters=assistant.generation,
        seed=assistant.seed,
        folder=workspace,
        scored=[],
    )
    given, _ = job.ask(assistant.cluster, credentials.api_key(assistant.generation.served.base_url))
    answers = kept_answers(given, training_posts, ["reasoning"])["reasoning"]
    correct = keep_correct(training_posts, answers, faithful=assistant.method.faithful_expansion)
    kept = with_fingerprints(correct, training_posts)
    rejected = with_fingerprints(wrong_reasonings(training_posts, answers), training_posts)
    incomplete = sum(bool(answer.shortcomings) for answer in answers)
    logger.log(
        logging.INFO if kept else logging.WARNING,
        "data expansion: kept %d of %d reasonings of the assistant; %d come to a wrong label, %d are incomplete",
        len(kept), len(answers), len(rejected), incomplete,
    )  # fmt: skip
    config = {"generation": recorded(assistant.generation), "seed": assistant.seed}
    statistics = expansion_statistics(training_posts, answers, len(kept), assistant.seed)
    return kept, rejected, {**statistics, "config": config}


def join_training_set(
    posts: pd.DataFrame,
    teacher_reasoning: list[TeacherRecord],
    quarantine: list[QuarantinedPost],
    assistant_reasoning: list[ExpansionRecord],
) -> list[TrainingRow]:
    """Join the teacher's and the assistant's reasonings to the student's training set (Eq. 8)."""
    checked_posts(
        posts, {"teacher_reasoning": teacher_reasoning, "assistant_reasoning": assistant_reasoning}, quarantine
    )
    return student_rows(teacher_reasoning, assistant_reasoning)


def cache_soft_labels(
    posts: pd.DataFrame,
    captions: list[CaptionRecord],
    training_set: list[TrainingRow],
    adapter: dict[str, Any],
    assistant: ModelParameters,
    soft_labels: SoftLabelParameters,
    workspace: Path,
) -> SoftLabels | NoSoftLabels:
    """Compute the assistant's soft labels at every target token of the student's training set (Eq. 10)."""
    if not assistant.method.trains_assistant:
        return NoSoftLabels("the variant has no trained assistant")
    all_posts = model_posts(posts, captions, assistant.inputs, {"student_training_set": training_set})
    check_fits(adapter, all_posts, assistant)
    return assistant_soft_labels(
        StoredModel.of(adapter, assistant.backbone),
        all_posts,
        training_set,
        assistant.method.tasks,
        soft_labels,
        kept=Kept(workspace, "soft_labels"),
        cluster=assistant.cluster,
    )
