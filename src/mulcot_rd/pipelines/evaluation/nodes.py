"""Nodes of the pipeline evaluation."""

from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.credentials import Credentials
from mulcot_rd.distributed import launch
from mulcot_rd.errors import StaleInputError
from mulcot_rd.frames import posts_fingerprint
from mulcot_rd.generation import ServedParameters, trained_answers
from mulcot_rd.generation.cost import CostJob
from mulcot_rd.generation.predict import predictions
from mulcot_rd.metrics.efficiency import EfficiencyParameters
from mulcot_rd.metrics.quality import judge_scores, quality_scores
from mulcot_rd.metrics.summary import model_scores, teacher_scores
from mulcot_rd.models import custom_checkpoints
from mulcot_rd.parameters import RunParameters
from mulcot_rd.pipelines.posts import checked_posts, model_posts, with_fingerprints
from mulcot_rd.reasoning import write
from mulcot_rd.reporting.run_config import run_config
from mulcot_rd.schema import CaptionRecord, PredictionRecord, TeacherRecord
from mulcot_rd.teacher.judge import Conclusion, JudgeParameters, judge_conclusions
from mulcot_rd.training.manifest import check_fits, model_identity
from mulcot_rd.training.parameters import ModelParameters


def predict_test_split(
    posts: pd.DataFrame,
    captions: list[CaptionRecord],
    adapter: dict[str, Any],
    parameters: ModelParameters,
    credentials: Credentials,
    workspace: Path,
) -> list[PredictionRecord]:
    """Let the assistant or the student answer the prompts of its tasks for each test post (Eq. 1).

    There are no answers of a model that the variant does without.
    """
    name = adapter["role"]
    if _absent(adapter, parameters):
        return []
    all_posts = model_posts(posts, captions, parameters.inputs)
    check_fits(adapter, all_posts, parameters)
    test = [post for post in all_posts if post.split == "test"]
    tasks = parameters.method.tasks
    answers = trained_answers(
        f"{name}, {len(test)} posts by {' and '.join(tasks)} prompt",
        Path(adapter["folder"]),
        parameters.backbone,
        test,
        tasks,
        parameters.generation,
        weights=model_identity(adapter),
        seed=parameters.seed,
        folder=workspace / f"{name}_test",
        cluster=parameters.cluster,
        api_key=credentials.api_key(parameters.generation.served.base_url),
    )
    return with_fingerprints(predictions(test, answers), test)


def measure_prediction_cost(
    posts: pd.DataFrame,
    captions: list[CaptionRecord],
    adapter: dict[str, Any],
    parameters: ModelParameters,
    efficiency: EfficiencyParameters,
    workspace: Path,
) -> dict[str, Any]:
    """Measure what one prediction costs on a worker's device (Tables 11 and 12); nothing where a server answers."""
    if parameters.generation.backend == "served" or _absent(adapter, parameters):
        return {}
    all_posts = model_posts(posts, captions, parameters.inputs)
    check_fits(adapter, all_posts, parameters)
    job = CostJob(
        adapter=Path(adapter["folder"]),
        backbone=parameters.backbone,
        posts=[post for post in all_posts if post.split == "test"][: efficiency.posts],
        tasks=parameters.method.tasks,
        parameters=parameters.generation.model_copy(update={"served": ServedParameters()}),
        seed=parameters.seed,
        max_seconds=efficiency.max_seconds,
    )
    return launch(job, parameters.cluster, workspace / "job", 1)


def join_efficiency(assistant: dict[str, Any], student: dict[str, Any]) -> dict[str, Any]:
    """Join the costs of both models, or take those of the one that the variant has."""
    return {name: costs for name, costs in (("assistant", assistant), ("student", student)) if costs}


def record_config(
    teacher_summary: dict[str, Any],
    assistant_adapter: dict[str, Any],
    expansion_statistics: dict[str, Any],
    student_adapter: dict[str, Any],
    parameters: dict[str, Any],
    run: RunParameters,
) -> dict[str, Any]:
    """Record the parameters that each result of the run was made with, and those that evaluate it."""
    results = {
        "teacher": teacher_summary,
        "assistant": assistant_adapter,
        "expansion": expansion_statistics,
        "student": student_adapter,
    }
    return run_config(run, parameters, results)


def score_run(
    posts: pd.DataFrame,
    captions: list[CaptionRecord],
    assistant_test: list[PredictionRecord],
    student_test: list[PredictionRecord],
    teacher_references: list[TeacherRecord],
    teacher_summary: dict[str, Any],
    config: dict[str, Any],
) -> dict[str, Any]:
    """Compute all metrics of a run, as fractions (Tables 3 to 5), with what they are of and the sizes of its data.

    A model that the variant does without is ``None``.
    """
    records = {"teacher_references": teacher_references, "assistant_test": assistant_test, "student_test": student_test}
    all_posts = checked_posts(posts, records, quarantine=())
    test = [post for post in all_posts if post.split == "test"]
    if len(test) - len(teacher_references) != teacher_summary["references"]["missing"]:
        raise StaleInputError(
            f"teacher_references.jsonl was made for other posts than the {len(test)} test posts at hand: use the "
            "--params that it was made with (limit), or run the pipeline teacher_annotation again"
        )
    run, evaluation = RunParameters.model_validate(config["run"]), config["evaluation"]
    answered = evaluation["student"]["generation"]
    # A trained model stays the run's own, wherever it answers.
    stands_in = answered["backend"] == "served" and not config["student"]["method"]["trained"]
    sizes = posts["split"].value_counts()
    models = (("assistant", assistant_test), ("student", student_test))
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
            "posts": posts_fingerprint(all_posts),
            "captions": _captioners(posts, captions) if evaluation["captions_needed"] else None,
            "aspects": bool(posts["aspect"].notna().any()),
            "teacher": ", ".join(teacher_summary["models"]),
            "checkpoints": custom_checkpoints(config[name]["backbone"]["model"] for name, _ in models),
            "served": answered["served"]["model"] if stands_in else None,
        },
        "dataset": {
            **{split: int(sizes.get(split, 0)) for split in ("train", "dev", "test")},
            "train_plus": config["student"].get("training_rows"),
        },
        **teacher_scores(teacher_references, test, seed=run.seed),
        **{
            name: model_scores(records, teacher_references, seed=run.seed, name=name) if records else None
            for name, records in models
        },
    }


def score_quality(
    posts: pd.DataFrame,
    assistant_test: list[PredictionRecord],
    student_test: list[PredictionRecord],
    teacher_references: list[TeacherRecord],
    judge: JudgeParameters,
    credentials: Credentials,
    ledger: Path,
) -> dict[str, Any]:
    """Score the qualities of the reasonings that need no reference: by rules, and by a judge where one is asked for."""
    records = {"teacher_references": teacher_references, "assistant_test": assistant_test, "student_test": student_test}
    by_id = {post.id: post for post in checked_posts(posts, records, quarantine=())}
    written = {
        "teacher": [(by_id[r.id], r.reasoning, write(r.reasoning)) for r in teacher_references],
        "assistant": [(by_id[r.id], r.reasoning, r.raw_text) for r in assistant_test if r.attempts],
        "student": [(by_id[r.id], r.reasoning, r.raw_text) for r in student_test if r.attempts],
    }
    scores: dict[str, Any] = dict.fromkeys(written)
    for name, rows in written.items():
        if not rows:
            continue
        about, reasonings, texts = zip(*rows, strict=True)
        scores[name] = quality_scores(reasonings, texts, about, seed=judge.seed)
        if judge.posts:
            asked = list(zip(about, reasonings, strict=True))[: judge.posts]
            conclusions = [Conclusion(post.id, post.aspect, reasoning.final_conclusion) for post, reasoning in asked]
            api_key = credentials.api_key(judge.teacher.base_url)
            verdicts = judge_conclusions(conclusions, judge.teacher, ledger, api_key)
            scores[name] |= judge_scores(verdicts, [reasoning.prediction for _, reasoning in asked], seed=judge.seed)
    return scores


def _absent(adapter: dict[str, Any], parameters: ModelParameters) -> bool:
    """Whether there is no such model: the variant trains models, but not this one; or a server has one for both."""
    if parameters.method.trained:
        return not adapter["trained"]
    return parameters.generation.backend == "served" and adapter["role"] == "student"


def _captioners(posts: pd.DataFrame, captions: list[CaptionRecord]) -> str:
    """Who wrote the captions of these posts."""
    images = set(posts["image"])
    return ", ".join(sorted({record.model for record in captions if record.image in images}))
