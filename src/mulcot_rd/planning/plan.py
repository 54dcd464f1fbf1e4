"""What a run takes: the cost model applied to a run's parameters and posts."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mulcot_rd.ingest.read import TWITTER
from mulcot_rd.models import family_named
from mulcot_rd.models.inputs import prompt_text
from mulcot_rd.parameters import RunParameters
from mulcot_rd.planning import cost_model as cost
from mulcot_rd.planning.cost_model import Device, Row
from mulcot_rd.planning.shape import Shape, model_shape
from mulcot_rd.prompts import Task, response_format
from mulcot_rd.reporting.published import published
from mulcot_rd.schema import SPLITS, Post, Sentiment
from mulcot_rd.teacher import TeacherParameters
from mulcot_rd.teacher.dry_run import ANSWER_TOKENS
from mulcot_rd.teacher.judge import JudgeParameters
from mulcot_rd.teacher.prices import CHARACTERS_PER_TOKEN
from mulcot_rd.training.parameters import ModelParameters
from mulcot_rd.training.soft_labels import SoftLabelParameters

# A label answer with its prefix and the end of the turn, as bench/settings.py has it.
LABEL_TOKENS = 5
# Characters of a post's text, the mean of Twitter-2015.
TEXT_CHARACTERS = 85
# Marks the kind of soft labels that is not configured.
UNUSED = " (not used)"
# Posts whose prompts are read for the mean length.
SAMPLED_POSTS = 500


class DryRunParameters(BaseModel):
    """What a dry run counts with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
class Memory:
    """Bytes of a role's model on the device; ``training`` has them by part, activations in both ways."""

    role: str
    shape: Shape
    checkpointing: bool
    training: dict[str, float]
    answering: dict[str, float]

    @property
    def training_peak(self) -> float:
        """Bytes of training as configured."""
        unused = "activations, kept" if self.checkpointing else "activations, recomputed"
        return sum(size for part, size in self.training.items() if part != unused)


@dataclass(frozen=True)
class Plan:
    """All that a run takes, but for the teacher.

    Attributes:
        run: The run.
        device: What it is planned for.
        posts: Posts by split.
        rows: Training rows by role; the student's are N + N_a (Eq. 8).
        kept: Share of training posts whose reasoning by the assistant is correct: an assumption.
        row: Mean lengths by role.
        work: Pieces of work, of all stages.
        memory: By role.
        disk: Bytes by what they hold.
    """

    run: RunParameters
    device: Device
    posts: dict[str, int]
    rows: dict[str, int]
    kept: float
    row: dict[str, Row]
    work: list[Work] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    disk: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """The parameter groups that a plan reads."""

    run: RunParameters
    roles: dict[str, ModelParameters]
    soft_labels: SoftLabelParameters
    teacher: TeacherParameters
    judge: JudgeParameters
    dry_run: DryRunParameters

    @classmethod
    def of(cls, read: Callable[[str], Any]) -> "Settings":
        """The groups from what gives a group by name, raw or validated."""
        return cls(
            RunParameters.model_validate(read("run_settings")),
            {role: ModelParameters.model_validate(read(role)) for role in ("assistant", "student")},
            SoftLabelParameters.model_validate(read("soft_labels")),
            TeacherParameters.model_validate(read("teacher")),
            JudgeParameters.model_validate(read("judge")),
            DryRunParameters.model_validate(read("dry_run_settings")),
        )


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


def make_plan(settings: Settings, posts: Sequence[Post]) -> Plan:
    """Plan a run.

    Args:
        settings: The run's parameters.
        posts: All posts, with captions where models read them.
    """
    device, roles = settings.dry_run.device, settings.roles
    counts = {split: sum(post.split == split for post in posts) for split in SPLITS}
    counts["train"] = settings.dry_run.train_posts or counts["train"]
    method = roles["assistant"].method
    kept = kept_share(settings.run.dataset)
    rows = {"assistant": counts["train"] if method.trains_assistant else 0}
    expanded = round(kept * counts["train"]) if method.expands else 0
    rows["student"] = counts["train"] + expanded if method.trained else 0
    shapes = {role: model_shape(parameters.backbone, parameters.inputs) for role, parameters in roles.items()}
    lengths = {role: mean_row(posts, shapes[role], roles[role]) for role in roles}
    plan = Plan(settings.run, device, counts, rows, kept, lengths)
    soft = shapes["assistant"] if method.trains_assistant else None
    exact = soft if settings.soft_labels.kind == "exact" else None
    if method.trains_assistant:
        plan.work.extend(_training("assistant", roles["assistant"], shapes["assistant"], plan, None))
    if method.expands:
        reasonings = _only(lengths["assistant"], "reasoning")
        plan.work.append(
            _answers("data_expansion", "expansion", roles["assistant"], shapes["assistant"], reasonings, plan, "train")
        )
    if soft is not None:
        flops = cost.forward_flops(soft, lengths["assistant"]) * rows["student"]
        hours = device.hours(flops, device.utilisation.soft_labels)
        tokens = rows["student"] * lengths["assistant"].tokens
        plan.work.append(Work("data_expansion", "soft labels", hours, tokens))
        positions = rows["student"] * lengths["student"].targets
        for kind in ("exact", "compact"):
            chosen = settings.soft_labels.model_copy(update={"kind": kind})
            unused = "" if kind == settings.soft_labels.kind else UNUSED
            plan.disk[f"soft labels, {kind}{unused}"] = cost.soft_label_bytes(positions, soft, chosen)
    if method.trained:
        plan.work.extend(_training("student", roles["student"], shapes["student"], plan, exact))
    for role, parameters in roles.items():
        shape, row = shapes[role], lengths[role]
        if method.trained and not rows[role]:
            # The variant has no such model.
            continue
        plan.work.append(_answers("evaluation", role, parameters, shape, row, plan, "test"))
        plan.memory.append(_memory(role, parameters, shape, row, exact if role == "student" else None))
        if method.trained:
            plan.disk[f"{role}, trained weights"] = 4 * shape.trained
            plan.disk[f"{role}, checkpoint in work"] = 12 * shape.trained
    return plan


def _only(row: Row, task: Task) -> Row:
    return Row(row.prefix, {task: row.suffixes[task]}, {task: row.answers[task]})


def _training(role: str, parameters: ModelParameters, shape: Shape, plan: Plan, assistant: Shape | None) -> list[Work]:
    """Training for all epochs, and the answers that score each of them."""
    stage = "assistant_training" if role == "assistant" else "student_distillation"
    optimisation, device, rows, row = parameters.training.optimisation, plan.device, plan.rows[role], plan.row[role]
    shares = device.utilisation
    share = shares.training if parameters.backbone.gradient_checkpointing else shares.training_activations_kept
    seen = rows * optimisation.epochs
    window = optimisation.batch_size * optimisation.gradient_accumulation_steps
    hours = device.hours(seen * cost.training_flops(shape, row, assistant), share)
    steps = math.ceil(rows / window) * optimisation.epochs
    dev = min(plan.posts["dev"], optimisation.validation.posts or plan.posts["dev"])
    scored = {task: row.answers[task] for task in optimisation.validation.tasks if task in row.answers}
    asked = Row(row.prefix, {task: row.suffixes[task] for task in scored}, scored)
    seconds = cost.answer_seconds(shape, asked, parameters.generation.batch_size, device) if scored else 0.0
    answered = dev * optimisation.epochs
    return [
        Work(stage, "training", hours, seen * row.tokens, steps),
        Work(stage, "scoring of epochs", answered * seconds / 3600, answered * asked.targets),
    ]


def _answers(
    stage: str, what: str, parameters: ModelParameters, shape: Shape, row: Row, plan: Plan, split: str
) -> Work:
    seconds = cost.answer_seconds(shape, row, parameters.generation.batch_size, plan.device)
    return Work(stage, what, plan.posts[split] * seconds / 3600, plan.posts[split] * row.targets)


def _memory(role: str, parameters: ModelParameters, shape: Shape, row: Row, assistant: Shape | None) -> Memory:
    optimisation, rows = parameters.training.optimisation, parameters.generation.batch_size
    images = optimisation.batch_size
    if optimisation.batch_tokens is not None:
        images = max(1, round(optimisation.batch_tokens / row.tokens))
    positions = images * row.tokens
    training: Mapping[str, float] = {}
    if parameters.method.trained:
        training = {
            "frozen weights": cost.frozen_bytes(shape),
            "trained, gradients, AdamW": cost.trained_bytes(shape),
            "activations, recomputed": cost.activation_bytes(shape, positions, images, checkpointing=True),
            "activations, kept": cost.activation_bytes(shape, positions, images, checkpointing=False),
            "logits": cost.logit_bytes(shape.vocabulary),
            "assistant's head": 0 if assistant is None else assistant.head * assistant.item,
        }
    columns = row.prefix + max(row.suffixes.values()) + parameters.generation.max_new_tokens
    answering = {"weights": cost.answering_bytes(shape), "KV cache": cost.cache_bytes(shape, columns, rows)}
    return Memory(role, shape, parameters.backbone.gradient_checkpointing, dict(training), answering)
