"""Nodes of the pipeline data_expansion."""

from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.credentials import Credentials, recorded
from mulcot_rd.generation import AnswerLog, answer_posts
from mulcot_rd.generation.predict import prompts_fingerprint
from mulcot_rd.kept import Kept
from mulcot_rd.pipelines.models import answering_model, trained_model
from mulcot_rd.pipelines.posts import checked_posts, model_posts, with_fingerprints
from mulcot_rd.schema import CaptionRecord, ExpansionRecord, TeacherRecord, TrainingRow
from mulcot_rd.teacher import QuarantinedPost
from mulcot_rd.training.expansion import expansion_statistics, keep_correct, no_expansion, student_rows
from mulcot_rd.training.identity import examples_fingerprint
from mulcot_rd.training.manifest import model_identity
from mulcot_rd.training.parameters import ModelParameters
from mulcot_rd.training.soft_labels import NoSoftLabels, SoftLabelParameters, SoftLabels, write_soft_labels
from mulcot_rd.training.train import training_examples


def write_assistant_reasoning(
    posts: pd.DataFrame,
    captions: list[CaptionRecord],
    adapter: dict[str, Any],
    assistant: ModelParameters,
    credentials: Credentials,
    workspace: Path,
) -> tuple[list[ExpansionRecord], dict[str, Any]]:
    """Let the trained assistant reason about the training split; keep what reaches the gold label (Eq. 7).

    A variant whose assistant does not reason, or that has none, keeps nothing.
    """
    all_posts = model_posts(posts, captions, assistant.inputs)
    training_posts = [post for post in all_posts if post.split == "train"]
    if not assistant.method.expands:
        return [], no_expansion(training_posts)
    model, encoder = answering_model(all_posts, adapter, assistant)
    made_from = {
        "model": model_identity(adapter),
        "prompts": prompts_fingerprint(encoder, training_posts),
        "generation": assistant.generation.result_settings(("reasoning",)),
        "seed": assistant.seed,
    }
    answers = answer_posts(
        model,
        encoder,
        training_posts,
        ("reasoning",),
        assistant.generation,
        seed=assistant.seed,
        log=AnswerLog(workspace, made_from),
        description=f"assistant, {len(training_posts)} training posts",
        api_key=credentials.api_key(assistant.generation.served.base_url),
    )["reasoning"]
    kept = with_fingerprints(keep_correct(training_posts, answers), training_posts)
    config = {"generation": recorded(assistant.generation), "seed": assistant.seed}
    return kept, {**expansion_statistics(training_posts, answers, len(kept), assistant.seed), "config": config}


def join_training_set(
    posts: pd.DataFrame,
    teacher_reasoning: list[TeacherRecord],
    quarantine: list[QuarantinedPost],
    assistant_reasoning: list[ExpansionRecord],
) -> list[TrainingRow]:
    """Join the teacher's and the assistant's reasonings to the student's training set (Eq. 8)."""
    records = {"teacher_reasoning": teacher_reasoning, "assistant_reasoning": assistant_reasoning}
    checked_posts(posts, records, quarantine)
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
    trained = trained_model(all_posts, adapter, assistant)
    tasks = assistant.method.tasks
    examples = training_examples(training_set, all_posts, trained.encoder, "the student's training set", tasks)
    made_from = {
        "model": model_identity(adapter),
        "training_rows": examples_fingerprint(examples),
        "soft_labels": soft_labels.result_settings(),
    }
    kept = Kept(workspace, "soft_labels")
    return write_soft_labels(trained.model, trained.encoder, examples, kept, made_from, soft_labels)
