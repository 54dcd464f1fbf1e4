"""Nodes of the pipeline evaluation."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import PreTrainedModel

from mulcot_rd.credentials import Credentials
from mulcot_rd.errors import StaleInputError
from mulcot_rd.frames import posts_fingerprint, posts_from_frame
from mulcot_rd.generation import GenerationParameters
from mulcot_rd.generation.engine import write_answers
from mulcot_rd.generation.predict import predict
from mulcot_rd.metrics.efficiency import EfficiencyParameters, device_name, measure_efficiency
from mulcot_rd.metrics.quality import judge_scores, quality_scores
from mulcot_rd.metrics.summary import role_scores, teacher_scores
from mulcot_rd.models import stand_ins
from mulcot_rd.models.lora import without_adapter
from mulcot_rd.parameters import RunParameters
from mulcot_rd.pipelines.posts import check_made_from, model_posts, with_fingerprints
from mulcot_rd.pipelines.roles import answering_role, role_for
from mulcot_rd.progress import progress
from mulcot_rd.prompts import Task
from mulcot_rd.reasoning import write
from mulcot_rd.schema import CaptionRecord, Post, PredictionRecord, TeacherRecord, TrainingRow
from mulcot_rd.teacher import TeacherParameters
from mulcot_rd.teacher.judge import Conclusion, JudgeParameters, judge_conclusions
from mulcot_rd.training.parameters import RoleParameters
from mulcot_rd.training.roles import Role, model_identity


def predict_test_split(
    posts: pd.DataFrame,
    captions: list[CaptionRecord],
    adapter: dict[str, Any],
    role: RoleParameters,
    credentials: Credentials,
    workspace: Path,
) -> list[PredictionRecord]:
    """Answer the tasks' prompts for every post of the test split with a role; nothing for a role the variant lacks."""
    name = adapter["role"]
    if _absent(adapter, role):
        return []
    all_posts = model_posts(posts, captions, role.inputs)
    model, encoder = answering_role(all_posts, adapter, role)
    test = [post for post in all_posts if post.split == "test"]
    records = predict(
        model,
        encoder,
        test,
        role.generation,
        seed=role.seed,
        folder=workspace / f"{name}_test",
        weights=model_identity(adapter),
        name=name,
        tasks=role.method.tasks,
        api_key=credentials.api_key(role.generation.served.base_url),
    )
    return with_fingerprints(records, test)


def _absent(adapter: dict[str, Any], role: RoleParameters) -> bool:
    """Whether there is no such role: its variant trains models, and not this one; or one served base model is both."""
    if role.method.trained:
        return not adapter["trained"]
    return role.generation.backend == "served" and adapter["role"] == "student"


def measure_role_efficiency(
    posts: pd.DataFrame,
    captions: list[CaptionRecord],
    adapter: dict[str, Any],
    parameters: RoleParameters,
    efficiency: EfficiencyParameters,
) -> dict[str, Any]:
    """What one prediction costs at batch size 1, by each prompt, on the device at hand (Tables 11 and 12).

    A prediction is one greedy answer, without retries, from the image on disk to the text. Where a
    server answers, nothing is measured here.
    """
    generation = parameters.generation
    if generation.backend == "served" or _absent(adapter, parameters):
        return {}
    all_posts = model_posts(posts, captions, parameters.inputs)
    role = role_for(all_posts, adapter, parameters)
    device = role.model.device
    once = generation.model_copy(update={"batch_size": 1, "max_retries": 0})
    test = [post for post in all_posts if post.split == "test"][: efficiency.posts]
    numbers = adapter.get("parameters", {"total": role.parameters, "trainable": 0})
    total, trainable = numbers["total"], numbers["trainable"]
    base = without_adapter(role.model)
    return {
        "model": parameters.backbone.model or f"tiny {parameters.backbone.family}",
        "device": device_name(device),
        "dtype": str(base.dtype).removeprefix("torch."),
        "parameters": total,
        "trainable_parameters": trainable,
        "trainable_percent": 100 * trainable / total,
        "prompts": {
            task: measure_efficiency(
                partial(_one_after_another, base, role, task, once, parameters.seed, None),
                test,
                device,
                max_seconds=efficiency.max_seconds,
                plain=partial(_one_after_another, base, role, task, once, parameters.seed, False),
            )
            for task in parameters.method.tasks
        },
    }


def _one_after_another(
    base: PreTrainedModel,
    role: Role,
    task: Task,
    parameters: GenerationParameters,
    seed: int,
    static: bool | None,
    posts: Sequence[Post],
    finished: Callable[[], None],
) -> None:
    """Answer a task's prompt for one post after the other; says behind each that it is finished."""
    prompts = {post.id: {task: role.encoder.prompt(post, task)} for post in posts}
    answers = write_answers(base, role.encoder, posts, prompts, parameters, seed=seed, static=static)
    about = f"{role.name}, one post at a time by {task} prompt"
    for _ in progress(answers, total=len(posts), desc=about, unit="answer"):
        finished()


def join_efficiency(assistant: dict[str, Any], student: dict[str, Any]) -> dict[str, Any]:
    """Both roles in one file, or the one that the variant has."""
    return {name: costs for name, costs in (("assistant", assistant), ("student", student)) if costs}


def describe_run(
    posts: pd.DataFrame,
    captions: list[CaptionRecord],
    teacher_summary: dict[str, Any],
    training_set: list[TrainingRow],
    expansion: dict[str, Any],
    assistant: RoleParameters,
    student: RoleParameters,
    run: RunParameters,
) -> dict[str, Any]:
    """What the run's scores are of: posts, teacher, models, and the sizes of its data (Tables 1 and 8)."""
    check_made_from(posts, "train", training_set, "student_training_set.jsonl", "data_expansion")
    sizes = posts["split"].value_counts()
    return {
        "run": {
            "dataset": run.dataset,
            "run": run.name,
            "arch": run.arch,
            "scale": run.scale,
            "variant": run.variant,
            "seed": run.seed,
            # A limit that no split reaches has cut nothing.
            "limit": run.limit if sizes.max() == run.limit else None,
            "posts": posts_fingerprint(posts_from_frame(posts)),
            "captions": _captioners(posts, captions) if student.inputs.captions_needed else None,
            "aspects": bool(posts["aspect"].notna().any()),
            "teacher": ", ".join(teacher_summary["models"]),
            "checkpoints": stand_ins(role.backbone.model for role in (assistant, student)),
            "served": student.generation.served.model if student.generation.backend == "served" else None,
        },
        "dataset": {
            **{split: int(sizes.get(split, 0)) for split in ("train", "dev", "test")},
            "train_plus": len(training_set),
        },
        "expansion": {
            name: expansion[name] for name in ("samples", "kept", "accuracy", "weighted_f1", "macro_f1", "intervals")
        },
    }


def score_run(
    posts: pd.DataFrame,
    assistant_test: list[PredictionRecord],
    student_test: list[PredictionRecord],
    teacher_references: list[TeacherRecord],
    teacher_summary: dict[str, Any],
    description: dict[str, Any],
    run: RunParameters,
) -> dict[str, Any]:
    """All metrics of a run, as fractions (Tables 3 to 5 and 8); ``None`` for a role that the variant lacks."""
    check_answers(posts, assistant_test, student_test, teacher_references)
    if description["run"]["posts"] != posts_fingerprint(posts_from_frame(posts)):
        raise StaleInputError(
            "run_description.json is of other posts than those at hand: use the --params that it was made with (limit) "
            "or run the pipeline evaluation again"
        )
    test = posts_from_frame(posts, "test")
    if len(test) - len(teacher_references) != teacher_summary["references"]["missing"]:
        raise StaleInputError(
            f"teacher_references.jsonl was made for other posts than the {len(test)} test posts at hand: use the "
            "--params that it was made with (limit), or run the pipeline teacher_annotation again"
        )
    return {
        **description,
        **teacher_scores(teacher_references, test, seed=run.seed),
        **{
            name: role_scores(records, teacher_references, seed=run.seed, name=name) if records else None
            for name, records in (("assistant", assistant_test), ("student", student_test))
        },
    }


def check_answers(
    posts: pd.DataFrame,
    assistant_test: list[PredictionRecord],
    student_test: list[PredictionRecord],
    teacher_references: list[TeacherRecord],
) -> None:
    """Refuse answers to other test posts than those at hand; a role that the variant lacks answers none.

    Raises:
        StaleInputError: If there are any; the message names file and post.
    """
    check_made_from(posts, "test", teacher_references, "teacher_references.jsonl", "teacher_annotation")
    for name, records in (("assistant", assistant_test), ("student", student_test)):
        if records:
            check_made_from(posts, "test", records, f"{name}_test.jsonl", "evaluation", without=())


def _captioners(posts: pd.DataFrame, captions: list[CaptionRecord]) -> str:
    """Who wrote the captions of these posts."""
    images = set(posts["image"])
    return ", ".join(sorted({record.model for record in captions if record.image in images}))


def score_quality(
    assistant_test: list[PredictionRecord],
    student_test: list[PredictionRecord],
    teacher_references: list[TeacherRecord],
    posts: pd.DataFrame,
    teacher: TeacherParameters,
    judge: JudgeParameters,
    credentials: Credentials,
    ledger: Path,
    run: RunParameters,
) -> dict[str, Any]:
    """Qualities of the reasonings that need no reference, by rules and, where it is asked for, by a judge."""
    check_answers(posts, assistant_test, student_test, teacher_references)
    by_id = {post.id: post for post in posts_from_frame(posts, "test")}
    written = {
        "teacher": [(record.id, record.reasoning, write(record.reasoning)) for record in teacher_references],
        **{
            name: [(record.id, record.reasoning, record.raw_text) for record in records if record.attempts]
            for name, records in (("assistant", assistant_test), ("student", student_test))
        },
    }
    scores = {}
    for name, rows in written.items():
        if not rows:
            scores[name] = None
            continue
        of_rows = [by_id[post_id] for post_id, _, _ in rows]
        scores[name] = quality_scores([r for _, r, _ in rows], [text for _, _, text in rows], of_rows, seed=run.seed)
        if judge.posts:
            judged = list(zip(of_rows, (reasoning for _, reasoning, _ in rows), strict=True))[: judge.posts]
            verdicts = judge_conclusions(
                [Conclusion(post.id, post.aspect, reasoning.final_conclusion) for post, reasoning in judged],
                teacher, ledger, credentials.api_key(teacher.base_url),
            )  # fmt: skip
            predicted = [reasoning.prediction for _, reasoning in judged]
            scores[name] |= judge_scores(verdicts, predicted, seed=run.seed)
    return scores
