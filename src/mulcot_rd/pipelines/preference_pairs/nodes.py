"""Nodes of the pipeline preference_pairs."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.credentials import Credentials, recorded
from mulcot_rd.generation import AnsweringJob
from mulcot_rd.generation.predict import predictions
from mulcot_rd.generation.records import Answer, by_prompt
from mulcot_rd.models.loaded import StoredModel
from mulcot_rd.pipelines.posts import PostRecords, checked_posts, model_posts, with_fingerprints
from mulcot_rd.preference.pairs import Candidate, make_pairs, pair_statistics
from mulcot_rd.preference.parameters import PreferenceParameters
from mulcot_rd.preference.scoring import checks
from mulcot_rd.prompts import Task
from mulcot_rd.reasoning import write
from mulcot_rd.schema import CaptionRecord, ExpansionRecord, Post, PredictionRecord, PreferencePair, TeacherRecord
from mulcot_rd.teacher.judge import Conclusion, JudgedLabel, JudgeParameters, judge_conclusions
from mulcot_rd.training.manifest import check_fits
from mulcot_rd.training.parameters import ModelParameters

logger = logging.getLogger(__name__)


def sample_student_reasonings(
    posts: pd.DataFrame,
    captions: list[CaptionRecord],
    adapter: dict[str, Any],
    student: ModelParameters,
    preference: PreferenceParameters,
    credentials: Credentials,
    workspace: Path,
) -> list[PredictionRecord]:
    """Let the distilled student reason several times about each training post: once greedily, else by sampling.

    A row is one complete reasoning, beside the student's greedy answer to the label prompt; ``attempts`` is its number.
    A variant without preference optimisation samples nothing.
    """
    if not student.method.preference:
        logger.info("no preference optimisation: the nodes from here to the evaluation do nothing (variant=preference)")
        return []
    every = model_posts(posts, captions, student.inputs)
    check_fits(adapter, every, student)
    training = [post for post in every if post.split == "train"]
    pairs = preference.pairs
    asked = {
        "samples": pairs.samples,
        "max_retries": 0,
        "retry_temperature": pairs.temperature,
        "retry_top_p": pairs.top_p,
    }
    job = AnsweringJob(
        model=StoredModel.of(adapter, student.backbone),
        posts=training,
        tasks=student.method.tasks,
        parameters=student.generation.model_copy(update=asked),
        seed=student.seed,
        folder=workspace,
        scored=[],
    )
    answers, _ = job.ask(student.cluster, credentials.api_key(student.generation.served.base_url))
    given = by_prompt(answers)
    records: list[PredictionRecord] = []
    for post in training:
        complete = [answer for answer in given["reasoning", post.id] if not answer.shortcomings]
        said: dict[Task, Sequence[Answer]] = {"reasoning": complete}
        if "label" in student.method.tasks:
            said["label"] = given["label", post.id][:1] * len(complete)
        records += predictions([post] * len(complete), said)
    return with_fingerprints(records, training)


def judge_samples(
    posts: pd.DataFrame,
    student_samples: list[PredictionRecord],
    preference: PreferenceParameters,
    judge: JudgeParameters,
    credentials: Credentials,
    ledger: Path,
) -> dict[tuple[str, str], JudgedLabel]:
    """Let a judge read the conclusions about the first ``judged_posts`` training posts; by post id and conclusion."""
    if not preference.pairs.judged_posts:
        return {}
    rows = checked_posts(posts, {"student_samples": student_samples})
    judged = [post for post in rows if post.split == "train"][: preference.pairs.judged_posts]
    aspects = {post.id: post.aspect for post in judged}
    asked = dict.fromkeys((record.id, record.final_conclusion) for record in student_samples if record.id in aspects)
    conclusions = [Conclusion(post_id, aspects[post_id], text) for post_id, text in asked]
    verdicts = judge_conclusions(conclusions, judge.teacher, ledger, credentials.api_key(judge.teacher.base_url))
    return {key: said for key, said in zip(asked, verdicts, strict=True) if said is not None}


def pair_reasonings(
    posts: pd.DataFrame,
    student_samples: list[PredictionRecord],
    judged: dict[tuple[str, str], JudgedLabel],
    assistant_rejected: list[ExpansionRecord],
    teacher_reasoning: list[TeacherRecord],
    teacher_rejected: list[TeacherRecord],
    preference: PreferenceParameters,
) -> tuple[list[PreferencePair], dict[str, Any]]:
    """Score the reasonings by what can be checked, and pair a better one with a worse one of the same post."""
    records: PostRecords = {
        "student_samples": student_samples,
        "assistant_rejected": assistant_rejected,
        "teacher_reasoning": teacher_reasoning,
        "teacher_rejected": teacher_rejected,
    }
    training = {post.id: post for post in checked_posts(posts, records) if post.split == "train"}
    own = [
        Candidate(
            record.id,
            record.reasoning,
            checks(
                record.reasoning,
                training[record.id],
                record.prediction if record.label_attempts else None,
                judged.get((record.id, record.final_conclusion)),
            ),
        )
        for record in student_samples
    ]
    assistant, first = _candidates(assistant_rejected, training), _candidates(teacher_rejected, training)
    second = {one.post_id: one for one in _candidates([r for r in teacher_reasoning if r.stage == 2], training)}
    stages = [(second[one.post_id], one) for one in first if one.post_id in second]
    words = [len(write(record.reasoning).split()) for record in teacher_reasoning]
    pairs = with_fingerprints(
        make_pairs(own, assistant, stages, words, preference.pairs, preference.seed), list(training.values())
    )
    statistics = {
        "posts": len(training),
        "samples": (1 + preference.pairs.samples) * len(training),
        "complete": len(student_samples),
        "kinds": pair_statistics(pairs),
        "config": recorded(preference.pairs) | {"seed": preference.seed},
    }
    return pairs, statistics


def _candidates(records: Sequence[ExpansionRecord | TeacherRecord], posts: dict[str, Post]) -> list[Candidate]:
    return [Candidate(record.id, record.reasoning, checks(record.reasoning, posts[record.id])) for record in records]
