"""Nodes of the pipeline evaluation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.credentials import Credentials
from mulcot_rd.distributed import launch
from mulcot_rd.errors import StaleInputError
from mulcot_rd.frames import posts_fingerprint
from mulcot_rd.generation import AnsweringJob, kept_answers
from mulcot_rd.generation.predict import predictions
from mulcot_rd.metrics.cost import CostJob
from mulcot_rd.metrics.efficiency import EfficiencyParameters
from mulcot_rd.metrics.quality import judge_scores, quality_scores
from mulcot_rd.metrics.summary import model_scores, teacher_scores
from mulcot_rd.models import custom_checkpoints
from mulcot_rd.models.loaded import StoredModel
from mulcot_rd.parameters import RunParameters
from mulcot_rd.pipelines.evaluation.model import EvaluatedModel
from mulcot_rd.pipelines.evaluation.parameter_hashes import shared_parameters, training_parameters
from mulcot_rd.pipelines.posts import PostRecords, checked_posts, model_posts, with_fingerprints
from mulcot_rd.preference import STUDENT_PREFERENCE
from mulcot_rd.reasoning import write
from mulcot_rd.reporting.run_config import run_config
from mulcot_rd.schema import CaptionRecord, Post, PredictionRecord, TeacherRecord, TemperatureRecord
from mulcot_rd.teacher.judge import Conclusion, JudgeParameters, judge_conclusions
from mulcot_rd.training.manifest import check_fits
from mulcot_rd.training.parameters import ModelParameters


def predict_test_split(
    posts: pd.DataFrame,
    captions: list[CaptionRecord],
    adapter: dict[str, Any],
    parameters: ModelParameters,
    run: RunParameters,
    credentials: Credentials,
    workspace: Path,
) -> tuple[list[PredictionRecord], EvaluatedModel]:
    """Let the assistant or the student answer the prompts of its tasks for each test post (Eq. 1).

    It scores the labels of dev and test posts too, from which :func:`calibrate_models` fits its temperature. There are
    no answers of a model that the variant does without, nor of the assistant of another run.
    """
    role, tasks, elsewhere = adapter["role"], parameters.method.tasks, run.trained_on is not None
    if _absent(adapter, parameters, run):
        return [], EvaluatedModel(role, None, parameters, [], [], {})
    every = model_posts(posts, captions, parameters.inputs)
    check_fits(adapter, every, parameters, elsewhere=elsewhere)
    dev, test = ([post for post in every if post.split == split] for split in ("dev", "test"))
    stored, served = StoredModel.of(adapter, parameters.backbone), parameters.generation.backend == "served"
    # The student of another run keeps the temperature that was fitted there.
    scored = [] if served or "label" not in tasks else test if elsewhere else dev + test
    job = AnsweringJob(
        model=stored,
        posts=test,
        tasks=tasks,
        parameters=parameters.generation,
        seed=parameters.seed,
        folder=workspace / f"{role}_test",
        scored=scored,
    )
    given, scores = job.ask(parameters.cluster, credentials.api_key(parameters.generation.served.base_url))
    by_id = dict(zip([post.id for post in scored], scores, strict=True))
    evaluated = EvaluatedModel(role, None if served else stored, parameters, dev, test, by_id)
    return with_fingerprints(predictions(test, kept_answers(given, test, tasks)), test), evaluated


def calibrate_models(
    assistant: EvaluatedModel,
    student: EvaluatedModel,
    run: RunParameters,
    student_preference: EvaluatedModel | None = None,
) -> tuple[dict[str, Any], list[TemperatureRecord]]:
    """Fit each model's temperature on the dev split, and score the probabilities of its labels on the test split.

    Returns:
        The scores by role, ``None`` for a model that has no label prompt, that a server answers in place of, or that
        the variant does without; and the temperatures, by which whoever loads these models finds them.
    """
    elsewhere = run.trained_on is not None
    models = [assistant, student]
    if student_preference is not None and student_preference.stored is not None:
        models.append(student_preference)
    calibration = {model.role: model.calibration(elsewhere=elsewhere) for model in models}
    return calibration, [
        TemperatureRecord(model=found["model"], role=role, temperature=found["temperature"])
        for role, found in calibration.items()
        if found is not None and not elsewhere
    ]


def measure_costs(
    assistant: EvaluatedModel, student: EvaluatedModel, efficiency: EfficiencyParameters, workspace: Path
) -> dict[str, Any]:
    """Measure what one prediction costs on a worker's device (Tables 11 and 12), of each model that the variant has.

    What was measured of the same model, posts and parameters on the same device stays as it was. A model in whose place
    a server answers costs nothing here.
    """
    found = {}
    for model in (assistant, student):
        if model.stored is None:
            continue
        job = CostJob(
            model=model.stored,
            posts=model.test[: efficiency.posts],
            tasks=model.parameters.method.tasks,
            parameters=model.parameters.generation.local(),
            max_seconds=efficiency.max_seconds,
            folder=workspace / "costs",
        )
        found[model.role] = launch(job, model.parameters.cluster, workspace / "job", 1)
    return found


def record_config(
    teacher_summary: dict[str, Any],
    assistant_adapter: dict[str, Any],
    expansion_statistics: dict[str, Any],
    student_adapter: dict[str, Any],
    parameters: dict[str, Any],
    run: RunParameters,
    preference_statistics: dict[str, Any] | None = None,
    student_preference_adapter: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Record the parameters that each result of the run was made with, and those that evaluate it."""
    results = {
        "teacher": teacher_summary,
        "assistant": assistant_adapter,
        "expansion": expansion_statistics,
        "student": student_adapter,
    }
    if student_preference_adapter and student_preference_adapter["trained"]:
        results |= {"preference_pairs": preference_statistics or {}, STUDENT_PREFERENCE: student_preference_adapter}
    return run_config(run, parameters, results)


def score_run(
    posts: pd.DataFrame,
    captions: list[CaptionRecord],
    assistant_test: list[PredictionRecord],
    student_test: list[PredictionRecord],
    teacher_references: list[TeacherRecord],
    teacher_summary: dict[str, Any],
    config: dict[str, Any],
    calibration: dict[str, Any],
    student_preference_test: Sequence[PredictionRecord] = (),
) -> dict[str, Any]:
    """Compute all metrics of a run, as fractions (Tables 3 to 5), with what they are of and the sizes of its data.

    A model that the variant does without is ``None``, and so is the assistant of another run. The student after
    preference optimisation is there if the variant has that. Where the student is another run's and the teacher's
    references are missing, its reasonings have no scores against them.
    """
    models = _answered(assistant_test, student_test, student_preference_test)
    records: PostRecords = {
        "teacher_references": teacher_references, **{f"{name}_test": rows for name, rows in models.items()}
    }  # fmt: skip
    all_posts = checked_posts(posts, records, quarantine=())
    test = [post for post in all_posts if post.split == "test"]
    run, evaluation = RunParameters.model_validate(config["run"]), config["evaluation"]
    elsewhere = run.trained_on is not None
    # The summary of a student from elsewhere is that of its own teacher.
    if not elsewhere and len(test) - len(teacher_references) != teacher_summary["references"]["missing"]:
        raise StaleInputError(
            f"teacher_references.jsonl was made for other posts than the {len(test)} test posts at hand: use the "
            "--params that it was made with (limit), or run the pipeline teacher_annotation again"
        )
    answered = evaluation["student"]["generation"]
    # A trained model stays the run's own, wherever it answers.
    stands_in = answered["backend"] == "served" and not config["student"]["method"]["trained"]
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
            "posts": posts_fingerprint(all_posts),
            "captions": _captioners(posts, captions) if evaluation["captions_needed"] else None,
            "aspects": bool(posts["aspect"].notna().any()),
            "trained_on": run.trained_on,
            "teacher": ", ".join(teacher_summary.get("models", ())) or None,
            "teacher_provider": teacher_summary.get("provider"),
            "training": training_parameters(config),
            "parameters": shared_parameters(config),
            "checkpoints": custom_checkpoints(
                config[name]["backbone"]["model"] for name, records in models.items() if records or not elsewhere
            ),
            "served": answered["served"]["model"] if stands_in else None,
        },
        "dataset": {
            **{split: int(sizes.get(split, 0)) for split in ("train", "dev", "test")},
            "train_plus": None if elsewhere else config["student"].get("training_rows"),
        },
        **({} if elsewhere else teacher_scores(teacher_references, test, seed=run.seed)),
        **{
            name: model_scores(records, teacher_references, seed=run.seed, name=name)
            | _of_confidence(calibration.get(name), test)
            if records
            else None
            for name, records in models.items()
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
    student_preference_test: Sequence[PredictionRecord] = (),
) -> dict[str, Any]:
    """Score the qualities of the reasonings that need no reference: by rules, and by a judge where one is asked for."""
    models = _answered(assistant_test, student_test, student_preference_test)
    records: PostRecords = {
        "teacher_references": teacher_references, **{f"{name}_test": rows for name, rows in models.items()}
    }  # fmt: skip
    by_id = {post.id: post for post in checked_posts(posts, records, quarantine=())}
    written = {
        "teacher": [(by_id[r.id], r.reasoning, write(r.reasoning)) for r in teacher_references],
        **{name: [(by_id[r.id], r.reasoning, r.raw_text) for r in rows if r.attempts] for name, rows in models.items()},
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


def _answered(
    assistant_test: list[PredictionRecord],
    student_test: list[PredictionRecord],
    student_preference_test: Sequence[PredictionRecord],
) -> dict[str, list[PredictionRecord]]:
    """The answers by model; a run has the student after preference optimisation where its variant has that."""
    found = {"assistant": assistant_test, "student": student_test}
    return {**found, STUDENT_PREFERENCE: list(student_preference_test)} if student_preference_test else found


def _of_confidence(calibration: dict[str, Any] | None, test: list[Post]) -> dict[str, Any]:
    """What metrics.json says of a model's probabilities."""
    if calibration is None:
        return {}
    if calibration["posts"] != posts_fingerprint(test):
        raise StaleInputError(
            "calibration.json is of other test posts than those at hand: run the pipeline evaluation again"
        )
    calibrated, uncalibrated = calibration["calibrated"], calibration["uncalibrated"]
    return {
        "expected_calibration_error": calibrated["expected_calibration_error"],
        "expected_calibration_error_uncalibrated": uncalibrated["expected_calibration_error"],
        "accuracy_by_coverage": calibrated["accuracy_by_coverage"],
    }


def _absent(adapter: dict[str, Any], parameters: ModelParameters, run: RunParameters) -> bool:
    """Whether there is no such model: the variant trains models, but not this one; or a server has one for both.

    Of another run the student alone is evaluated.
    """
    if run.trained_on is not None and adapter["role"] == "assistant":
        return True
    if adapter["role"] == STUDENT_PREFERENCE:
        return not adapter["trained"]
    if parameters.method.trained:
        return not adapter["trained"]
    return parameters.generation.backend == "served" and adapter["role"] == "student"


def _captioners(posts: pd.DataFrame, captions: list[CaptionRecord]) -> str:
    """Who wrote the captions of these posts."""
    images = set(posts["image"])
    return ", ".join(sorted({record.model for record in captions if record.image in images}))
