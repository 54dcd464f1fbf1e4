"""Nodes of the pipeline evaluation."""

from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.frames import posts_from_frame
from mulcot_rd.generation import GenerationParameters, answer_posts
from mulcot_rd.generation.predict import predict
from mulcot_rd.metrics.efficiency import EfficiencyParameters, device_name, measure_efficiency
from mulcot_rd.metrics.summary import role_scores, teacher_scores
from mulcot_rd.models import BackboneParameters
from mulcot_rd.parameters import InputParameters, RunParameters
from mulcot_rd.prompts import TASKS
from mulcot_rd.schema import PredictionRecord, TeacherRecord, TrainingRow
from mulcot_rd.training.roles import load_role


def predict_test_split(
    posts: pd.DataFrame,
    adapter: dict[str, Any],
    base: dict[str, Any],
    backbone: BackboneParameters,
    generation: GenerationParameters,
    inputs: InputParameters,
    run: RunParameters,
    workspace: Path,
) -> list[PredictionRecord]:
    """Answer both prompts for every post of the test split with a role's adapter."""
    name = adapter["role"]
    all_posts = posts_from_frame(posts)
    role = load_role(name, backbone, base, adapter, all_posts, image_size=inputs.image_size)
    return predict(
        role.model,
        role.encoder,
        [post for post in all_posts if post.split == "test"],
        generation,
        seed=run.seed,
        log_path=workspace / f"{name}_test_answers.jsonl",
        weights=f"{adapter['weights']} {adapter['fingerprint']}",
        name=name,
    )


def measure_role_efficiency(
    posts: pd.DataFrame,
    adapter: dict[str, Any],
    base: dict[str, Any],
    backbone: BackboneParameters,
    generation: GenerationParameters,
    inputs: InputParameters,
    efficiency: EfficiencyParameters,
    run: RunParameters,
) -> dict[str, Any]:
    """What one prediction costs at batch size 1, by either prompt, on the device at hand (Tables 11 and 12).

    A prediction is one greedy answer, without retries, from the post on disk to the text.
    """
    all_posts = posts_from_frame(posts)
    role = load_role(adapter["role"], backbone, base, adapter, all_posts, image_size=inputs.image_size)
    device = role.model.device
    once = generation.model_copy(update={"batch_size": 1, "max_retries": 0})
    test = [post for post in all_posts if post.split == "test"][: efficiency.posts]
    total, trainable = adapter["parameters"]["total"], adapter["parameters"]["trainable"]
    return {
        "model": backbone.model or f"tiny {backbone.family}",
        "device": device_name(device),
        "dtype": backbone.dtype,
        "parameters": total,
        "trainable_parameters": trainable,
        "trainable_percent": 100 * trainable / total,
        "prompts": {
            task: measure_efficiency(
                lambda post, task=task: answer_posts(
                    role.model, role.encoder, [post], task, once,
                    seed=run.seed, log=None, description=f"{role.name}, one post by {task} prompt",
                ),
                test, device, max_seconds=efficiency.max_seconds,
            )
            for task in TASKS
        },
    }  # fmt: skip


def join_efficiency(assistant: dict[str, Any], student: dict[str, Any]) -> dict[str, Any]:
    """Both roles in one file."""
    return {"assistant": assistant, "student": student}


def score_run(
    assistant_test: list[PredictionRecord],
    student_test: list[PredictionRecord],
    teacher_references: list[TeacherRecord],
    expansion_figures: dict[str, Any],
    training_set: list[TrainingRow],
    posts: pd.DataFrame,
    teacher_summary: dict[str, Any],
    run: RunParameters,
) -> dict[str, Any]:
    """All metrics of a run, as fractions (Tables 3 to 5 and 8)."""
    sizes = posts["split"].value_counts()
    return {
        "run": {
            "dataset": run.dataset,
            "run": run.name,
            "arch": run.arch,
            "scale": run.scale,
            "variant": run.variant,
            "seed": run.seed,
            "limit": run.limit,
            "teacher": ", ".join(teacher_summary["models"]),
        },
        "dataset": {
            **{split: int(sizes.get(split, 0)) for split in ("train", "dev", "test")},
            "train_plus": len(training_set),
        },
        "expansion": {
            name: expansion_figures[name] for name in ("samples", "kept", "accuracy", "weighted_f1", "macro_f1")
        },
        **teacher_scores(teacher_references, posts_from_frame(posts, "test"), seed=run.seed),
        "assistant": role_scores(assistant_test, teacher_references, seed=run.seed, name="assistant"),
        "student": role_scores(student_test, teacher_references, seed=run.seed, name="student"),
    }
