"""Nodes of the pipeline evaluation."""

from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.frames import posts_from_frame
from mulcot_rd.generation import GenerationParameters
from mulcot_rd.generation.predict import predict
from mulcot_rd.metrics.summary import role_scores, teacher_scores
from mulcot_rd.models import BackboneParameters
from mulcot_rd.parameters import InputParameters, RunParameters
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
        **teacher_scores(teacher_references, seed=run.seed),
        "assistant": role_scores(assistant_test, teacher_references, seed=run.seed, name="assistant"),
        "student": role_scores(student_test, teacher_references, seed=run.seed, name="student"),
    }
