"""What a run takes: the cost model applied to a run's parameters and posts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import Any

from pydantic import Field, ValidationError

from mulcot_rd.config import ProjectConfigLoader
from mulcot_rd.errors import UserError
from mulcot_rd.ingest.read import TWITTER
from mulcot_rd.models import family_named
from mulcot_rd.models.inputs import prompt_text
from mulcot_rd.pipeline_registry import validated
from mulcot_rd.planning import cost_model as cost
from mulcot_rd.planning.cost_model import Device, Row
from mulcot_rd.planning.shape import Shape, model_shape
from mulcot_rd.preference import STUDENT_PREFERENCE
from mulcot_rd.preference.parameters import PreferenceParameters
from mulcot_rd.prompts import Task, response_format
from mulcot_rd.reporting.published import published
from mulcot_rd.schema import SPLITS, Post, Record, Sentiment, Split
from mulcot_rd.teacher.dry_run import ANSWER_TOKENS
from mulcot_rd.teacher.prices import CHARACTERS_PER_TOKEN
from mulcot_rd.training.parameters import ModelParameters

# A label answer with its prefix and the end of the turn, as bench/settings.py has it.
LABEL_TOKENS = 5
# Characters of a post's text, the mean of Twitter-2015.
TEXT_CHARACTERS = 85
# Marks the kind of soft labels that is not configured.
UNUSED = " (not used)"
# Posts whose prompts are read for the mean length.
SAMPLED_POSTS = 500


class DryRunParameters(Record):
    """What a dry run counts with."""

    train_posts: int | None = Field(None, ge=1, description="Training posts to count with; null takes those at hand")
    device: Device = Field(description="The device that the run is planned for")


@dataclass(frozen=True)
class Work:
    """One piece of work on a device; tokens are those read in training, or answered."""

    stage: str
    what: str
    hours: float
    tokens: float
    steps: int | None = None


@dataclass(frozen=True)
class Role:
    """Assistant or student of a run: its model's sizes, its mean row, and the number of its training rows.

    ``assistant`` has the sizes of the model whose head makes exact soft labels for this one.
    """

    name: str
    parameters: ModelParameters
    shape: Shape
    row: Row
    rows: int
    assistant: Shape | None

    @property
    def training_bytes(self) -> dict[str, float]:
        """Bytes on the device in training, by part; activations in both ways. Nothing where nothing is trained."""
        if not self.parameters.method.trained:
            return {}
        optimisation = self.parameters.training.optimisation
        images = optimisation.batch_size
        if optimisation.batch_tokens is not None:
            images = max(1, round(optimisation.batch_tokens / self.row.tokens))
        activations = partial(cost.activation_bytes, self.shape, images * self.row.tokens, images)
        return {
            "frozen weights": cost.frozen_bytes(self.shape),
            "trained weights, AdamW": cost.TRAINED_BYTES * self.shape.trained,
            "sum of the gradients": cost.gradient_sum_bytes(self.shape, self.parameters.cluster.gradient_sum),
            "gradients": 4 * self.shape.trained,
            "activations, recomputed": activations(checkpointing=True),
            "activations, kept": activations(checkpointing=False),
            "logits": cost.logit_bytes(self.shape.vocabulary),
            "assistant's head": 0 if self.assistant is None else self.assistant.head * self.assistant.item,
        }

    @property
    def training_peak(self) -> float:
        """Bytes of training as configured: of activations and gradients the more, since these replace those."""
        sizes = self.training_bytes
        if not sizes:
            return 0.0
        activations = f"activations, {'recomputed' if self.parameters.backbone.gradient_checkpointing else 'kept'}"
        passing = ("gradients", "activations, recomputed", "activations, kept")
        lasting = sum(size for part, size in sizes.items() if part not in passing)
        return lasting + max(sizes["gradients"], sizes[activations])

    @property
    def answering_bytes(self) -> dict[str, float]:
        """Bytes on the device while the model answers, by part."""
        generation = self.parameters.generation
        columns = self.row.prefix + max(self.row.suffixes.values()) + generation.max_new_tokens
        cache = cost.cache_bytes(self.shape, columns, generation.batch_size)
        return {"weights": cost.answering_bytes(self.shape), "KV cache": cache}


@dataclass(frozen=True)
class Plan:
    """All that a run takes, but for the teacher."""

    posts: dict[Split, int]  # by split
    kept: float  # share of training posts whose reasoning by the assistant is correct: an assumption
    roles: list[Role]  # assistant and student
    models: list[Role]  # those of them that the variant has
    work: list[Work]  # of all stages
    disk: dict[str, float]  # bytes by what they hold


def parameter_groups(loader: ProjectConfigLoader) -> dict[str, Any]:
    """The groups of parameters by name, each as the class that describes it.

    Raises:
        ParameterValidationError: If a pipeline refuses its parameters.
        UserError: If ``dry_run_settings`` are refused.
    """
    groups = validated(loader["parameters"])
    try:
        return {**groups, "dry_run_settings": DryRunParameters.model_validate(groups["dry_run_settings"])}
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(map(str, fault["loc"]))
        raise UserError(f"dry_run_settings.{name}: {fault['msg']} (given: {fault['input']})") from error


def kept_share(dataset: str) -> float:
    """Mean accuracy of trained assistants on the training split (Table 8), over all data sets where it lacks this."""
    table = published()
    table = table[(table["table"] == 8) & (table["metric"] == "accuracy")]
    own = table[table["dataset"] == dataset]
    return float((table if own.empty else own)["value"].mean()) / 100


def published_posts(dataset: str, limit: int | None) -> list[Post]:
    """Made-up posts, as many a split as the paper's Table 1 has of a data set; none where it lacks the data set.

    Each has ``TEXT_CHARACTERS`` of text. Their label and image say nothing.
    """
    table = published()
    table = table[(table["table"] == 1) & (table["method"] == "all") & (table["dataset"] == dataset)]
    aspect = "an aspect" if dataset in TWITTER else None
    made_up = partial(Post, text="x" * TEXT_CHARACTERS, aspect=aspect, image="none", label=Sentiment.NEUTRAL)
    posts = []
    for split in SPLITS:
        one = made_up(id=split, split=split)
        count = int(table[table["metric"] == split]["value"].sum())
        posts += [one] * (count if limit is None else min(count, limit))
    return posts


def captioned(posts: Sequence[Post], max_words: int) -> list[Post]:
    """The posts with a caption of ``max_words`` words: as long as a real one may be."""
    return [post.model_copy(update={"caption": "caption " * max_words}) for post in posts]


def mean_row(posts: Sequence[Post], shape: Shape, parameters: ModelParameters) -> Row:
    """Mean lengths of a role's rows, in tokens.

    A prompt has its image tokens and a token for ``CHARACTERS_PER_TOKEN``; answers have ``ANSWER_TOKENS`` (reasoning)
    and ``LABEL_TOKENS``, or the longest length that is configured.
    """
    family, view = family_named(parameters.backbone.family), parameters.inputs.input_view
    every = math.ceil(len(posts) / SAMPLED_POSTS)
    tasks: Sequence[Task] = parameters.method.tasks
    texts = [prompt_text(family, post, tasks[0], view) for post in posts[::every]]
    tokens = fmean(map(len, texts)) / CHARACTERS_PER_TOKEN
    lengths = {"label": LABEL_TOKENS, "reasoning": ANSWER_TOKENS}
    answers = {task: float(min(lengths[task], parameters.generation.length(task))) for task in tasks}
    if family.encoder_decoder or view.prompts == "prediction":
        return Row(tokens + shape.image_tokens, dict.fromkeys(tasks, 0.0), answers)
    suffixes = {task: len(response_format(task)) / CHARACTERS_PER_TOKEN for task in tasks}
    return Row(tokens - suffixes[tasks[0]] + shape.image_tokens, suffixes, answers)


def make_plan(groups: dict[str, Any], posts: Sequence[Post]) -> Plan:
    """Plan a run with these :func:`parameter_groups` and all these posts, with captions where models read them."""
    dry_run, method, device = groups["dry_run_settings"], groups["assistant"].method, groups["dry_run_settings"].device
    counts = {split: sum(post.split == split for post in posts) for split in SPLITS}
    counts["train"] = dry_run.train_posts or counts["train"]
    kept = kept_share(groups["run_settings"].dataset)
    # The student's rows are N + N_a (Eq. 8).
    rows = {
        "assistant": counts["train"] if method.trains_assistant else 0,
        "student": counts["train"] + (round(kept * counts["train"]) if method.expands else 0) if method.trained else 0,
    }
    shapes = {name: model_shape(groups[name].backbone, groups[name].inputs) for name in rows}
    exact = method.trains_assistant and groups["soft_labels"].kind == "exact"
    heads = {"assistant": None, "student": shapes["assistant"] if exact else None}
    assistant, student = roles = [
        Role(name, groups[name], shapes[name], mean_row(posts, shapes[name], groups[name]), rows[name], heads[name])
        for name in rows
    ]
    models = roles if method.trains_assistant or not method.trained else [student]
    work: list[Work] = []
    disk: dict[str, float] = {}
    if method.trains_assistant:
        work += _training("assistant_training", assistant, counts["dev"], device)
    if method.expands:
        work.append(_answers("data_expansion", "expansion", assistant, counts["train"], device, ["reasoning"]))
    if method.trains_assistant:
        flops = cost.forward_flops(assistant.shape, assistant.row) * student.rows
        hours = device.hours(flops, device.utilisation.soft_labels)
        work.append(Work("data_expansion", "soft labels", hours, student.rows * assistant.row.tokens))
        positions = student.rows * student.row.targets
        for kind in ("exact", "compact"):
            chosen = groups["soft_labels"].model_copy(update={"kind": kind})
            unused = "" if kind == groups["soft_labels"].kind else UNUSED
            disk[f"soft labels, {kind}{unused}"] = cost.soft_label_bytes(positions, assistant.shape, chosen)
    if method.trained:
        work += _training("student_distillation", student, counts["dev"], device)
    if method.preference:
        work += _preferences(student, groups["preference"], counts, device)
    for role in models:
        work.append(_answers("evaluation", role.name, role, counts["test"], device, method.tasks))
        if method.trained:
            disk[f"{role.name}, trained weights"] = 4 * role.shape.trained
            disk[f"{role.name}, checkpoint in work"] = 12 * role.shape.trained
            if features := cost.image_feature_bytes(role.shape, counts["train"]):
                disk[f"{role.name}, features of the images"] = features
    return Plan(counts, kept, roles, models, work, disk)


def _training(stage: str, role: Role, dev: int, device: Device) -> list[Work]:
    """Training for all epochs, and the answers that score each of them."""
    optimisation, shares = role.parameters.training.optimisation, device.utilisation
    recomputed = role.parameters.backbone.gradient_checkpointing
    share = shares.training if recomputed else shares.training_activations_kept
    seen = role.rows * optimisation.epochs
    hours = device.hours(seen * cost.training_flops(role.shape, role.row, role.assistant), share)
    window = optimisation.batch_size * optimisation.gradient_accumulation_steps
    steps = math.ceil(role.rows / window) * optimisation.epochs
    scored = min(dev, optimisation.validation.posts or dev) * optimisation.epochs
    return [
        Work(stage, "training", hours, seen * role.row.tokens, steps),
        _answers(stage, "scoring of epochs", role, scored, device, optimisation.validation.tasks),
    ]


def _preferences(
    student: Role, preference: PreferenceParameters, counts: Mapping[Any, int], device: Device
) -> list[Work]:
    """Sampling, the reference and training on as many pairs as the student's own samples can give, and its answers."""
    samples = counts["train"] * (1 + preference.pairs.samples)
    # A row is a pair: the reasonings are two.
    suffixes: dict[Any, float] = {**student.row.suffixes, "rejected": student.row.suffixes["reasoning"]}
    answers: dict[Any, float] = {**student.row.answers, "rejected": student.row.answers["reasoning"]}
    row = Row(student.row.prefix, suffixes, answers)
    parameters = student.parameters.model_copy(update={"training": preference.training})
    pairs = preference.pairs.pairs_per_post * counts["train"]
    role = replace(student, parameters=parameters, row=row, rows=pairs, assistant=None)
    hours = device.hours(cost.forward_flops(role.shape, row) * pairs, device.utilisation.soft_labels)
    tasks = student.parameters.method.tasks
    return [
        _answers("preference_pairs", "samples", student, samples, device, tasks),
        Work("preference_optimisation", "reference", hours, pairs * row.tokens),
        *_training("preference_optimisation", role, counts["dev"], device),
        _answers("evaluation", STUDENT_PREFERENCE, student, counts["test"], device, tasks),
    ]


def _answers(stage: str, what: str, role: Role, posts: int, device: Device, tasks: Sequence[Task]) -> Work:
    """Answers to those of the tasks that are learned."""
    learned = {task: role.row.answers[task] for task in tasks if task in role.row.answers}
    row = Row(role.row.prefix, {task: role.row.suffixes[task] for task in learned}, learned)
    seconds = cost.answer_seconds(role.shape, row, role.parameters.generation.batch_size, device) if learned else 0.0
    return Work(stage, what, posts * seconds / 3600, posts * row.targets)
