"""The dry run's report: one table for the run, one with a row an architecture."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from kedro.io import DataCatalog

from mulcot_rd.config import ProjectConfigLoader
from mulcot_rd.errors import UserError
from mulcot_rd.frames import posts_from_frame
from mulcot_rd.ingest import IngestError, read_unchecked
from mulcot_rd.models import WeightsError
from mulcot_rd.planning.cost_model import GIB, Device
from mulcot_rd.planning.plan import (
    TEXT_CHARACTERS,
    UNUSED,
    Plan,
    captioned,
    make_plan,
    parameter_groups,
    published_posts,
)
from mulcot_rd.schema import SPLITS, Post
from mulcot_rd.teacher.annotate import annotator
from mulcot_rd.teacher.captions import CaptionQuestion
from mulcot_rd.teacher.dry_run import ANSWER_TOKENS, Estimate, estimate, follow
from mulcot_rd.teacher.judge import Conclusion
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.questions import PostRole, Question, Request, ask
from mulcot_rd.teacher.server import run

# Requests a second that the client has reached (docs/benchmarks.md, The teacher's client).
CLIENT_REQUESTS = 299
# Posts of a split that stand for all of them in the table of all architectures.
SAMPLED_REQUESTS = 100
# A conclusion to judge, in characters: an assumption.
CONCLUSION = "x" * 200


def report(catalog: DataCatalog, loader: ProjectConfigLoader, stages: Sequence[str]) -> str:
    """What these pipelines of a run would take, as text; no weights are loaded and nothing is asked.

    Raises:
        ParameterValidationError: If a pipeline refuses its parameters.
        UserError: If there are no posts, raw data, or numbers of the paper, or ``dry_run_settings`` are refused.
    """
    groups = parameter_groups(loader)
    settings, device = groups["run_settings"], groups["dry_run_settings"].device
    posts, source = _posts(catalog, groups)
    plan = make_plan(groups, captioned(posts, groups["teacher"].captions.max_words))
    scale = plan.posts["train"] / max(1, sum(post.split == "train" for post in posts))
    # Loading it would make its folder.
    ledger = Path(cast(Any, catalog.get("teacher_ledger"))._describe()["filepath"])
    asked = _asked(groups, posts, ledger, scale, stages)
    work = [
        (each.stage, each.what, "" if each.steps is None else f"{each.steps:,}", f"{each.tokens:,.0f}",
         _number(each.hours), _number(each.hours * device.usd_per_hour))
        for each in plan.work if each.stage in stages
    ]  # fmt: skip
    shares = device.utilisation
    lines = [
        f"dry run of {settings.name} on {settings.dataset}: nothing is done. Device: {device.name}.",
        f"posts: {', '.join(f'{split} {plan.posts[split]:,}' for split in SPLITS)} ({source})",
        f"training rows: {', '.join(f'{role.name} {role.rows:,}' for role in plan.roles)} (assumption for N_a: "
        f"{plan.kept:.1%} of the assistant's reasonings are correct, Table 8)",
        "tokens a row: " + ", ".join(f"{role.name} {role.row.tokens:.0f}" for role in plan.roles),
        "",
        *_table([("stage", "work", "steps", "tokens", "hours", "USD"), *work]),
        f"  - all epochs; {device.tflops:g} TFLOP/s and {device.bandwidth_tb_s:g} TB/s, of which training "
        f"reaches {shares.training:.2%} ({shares.training_activations_kept:.2%} with activations kept), soft labels "
        f"{shares.soft_labels:.2%}, answering {shares.answering:.1%}; {device.usd_per_hour:g} USD an hour",
        "  - answers are first answers, written by the device even where generation.backend is served; reasonings have "
        f"{ANSWER_TOKENS} tokens (mean of the authors' released ones)",
        "",
        *_memory(plan),
        "",
    ]
    if plan.disk:
        lines += [*_table([("disk", "GiB"), *((what, _gib(size)) for what, size in plan.disk.items())]), ""]
    for what, each in asked.items():
        lines += [f"server, {what}:", *each.lines, ""]
    if not asked:
        lines += ["server: nothing to ask", ""]
    lines += [*_bottleneck(plan, device, asked, stages), "", *_architectures(loader, posts, scale)]
    return "\n".join(lines)


def _posts(catalog: DataCatalog, groups: dict[str, Any]) -> tuple[list[Post], str]:
    settings = groups["run_settings"]
    if catalog.exists("posts"):
        return posts_from_frame(catalog.load("posts")), "posts.parquet"
    try:
        found = read_unchecked(settings.dataset, Path(settings.raw_dir), groups["ingest"])
    except IngestError as error:
        cure = f"run `kedro run --pipeline data_preparation` first, with the same --params: {error}"
        if made_up := published_posts(settings.dataset, settings.limit):
            return made_up, f"numbers of Table 1, texts of {TEXT_CHARACTERS} characters. To count your posts, {cure}"
        raise UserError(f"dry_run counts posts, and there are none: {cure}") from error
    kept = [post for split in SPLITS for post in [p for p in found if p.split == split][: settings.limit]]
    if not kept:
        raise UserError(
            f"data set {settings.dataset}: no raw row is a post; run `kedro run --pipeline data_preparation`"
        )
    return kept, f"raw data in {settings.raw_dir}, images not opened"


def _asked(
    groups: dict[str, Any], posts: list[Post], ledger: Path, scale: float, stages: Sequence[str]
) -> dict[str, Estimate]:
    """What servers would be asked, by the teacher's own dry run; what the ledger has needs no request.

    Requests about training posts count ``scale`` times, those about test posts once.
    """
    teacher, judge = groups["teacher"], groups["judge"]
    train, test = ([post for post in posts if post.split == split] for split in ("train", "test"))
    found: dict[str, tuple[list[tuple[Question, float]], TeacherParameters]] = {}
    if "teacher_annotation" in stages:
        captioner, max_words = teacher.for_captions(), teacher.captions.max_words
        needed = groups["assistant"].inputs.captions_needed
        images = {post.image: 0 for post in (posts if needed else train + test if teacher.send == "caption" else [])}
        if captioner.provider == "openai" and images:
            work = partial(ask, max_retries=captioner.max_retries)
            questions = [CaptionQuestion(image, max_words) for image in images]
            found["captions"] = (_open(questions, work, captioner, ledger, "image", scale), captioner)
        if teacher.writer == "openai":
            if teacher.send == "caption":
                train, test = captioned(train, max_words), captioned(test, max_words)
            annotate_one = annotator(train + test, teacher)
            open_questions = [
                *_open([(post, "reasoning") for post in train], annotate_one, teacher, ledger, "post", scale),
                *_open([(post, "reference") for post in test], annotate_one, teacher, ledger, "post", 1.0),
            ]
            found["reasonings"] = (open_questions, teacher)
    if "evaluation" in stages:
        # Teacher, assistant and student.
        judged: list[tuple[Question, float]] = [
            (Conclusion(post.id, post.aspect, CONCLUSION), 3.0) for post in test[: judge.posts]
        ]
        found["judge"] = (judged, judge.teacher)
    return {what: estimate(questions, server) for what, (questions, server) in found.items() if questions}


def _open(
    jobs: Sequence[Any], work: Callable[..., Any], parameters: TeacherParameters, ledger: Path, unit: str, times: float
) -> list[tuple[Question, float]]:
    """The open questions of these jobs, each so many times."""
    _, reached = run(follow(jobs, work, parameters, ledger, unit))
    return [(question, times) for question in reached]


def _memory(plan: Plan) -> list[str]:
    """A column a model."""
    parts = {
        "model": [role.shape.name for role in plan.models],
        "parameters": [f"{role.shape.total:,}" for role in plan.models],
        "trained": [f"{role.shape.trained:,}" for role in plan.models],
    }
    for role in plan.models:
        sizes = {f"training: {part}": size for part, size in role.training_bytes.items()}
        sizes |= {"training, as configured": role.training_peak} if sizes else {}
        sizes |= {f"answering: {part}": size for part, size in role.answering_bytes.items()}
        for part, size in sizes.items():
            parts.setdefault(part, []).append(_gib(size))
    return _table([("GiB", *(role.name for role in plan.models)), *((part, *cells) for part, cells in parts.items())])


def _bottleneck(plan: Plan, device: Device, asked: Mapping[str, Estimate], stages: Sequence[str]) -> list[str]:
    hours = {f"{work.stage}, {work.what}": work.hours for work in plan.work if work.stage in stages}
    money = {what: time * device.usd_per_hour for what, time in hours.items()}
    for what, each in asked.items():
        taken = each.requests / CLIENT_REQUESTS / 3600
        hours[f"server, {what} (at least: {CLIENT_REQUESTS} requests a second)"] = taken
        money |= {} if each.usd is None else {f"server, {what}": each.usd}
    lines = ["bottlenecks:"]
    for name, found, unit in (("time", hours, "hours"), ("money", money, "USD")):
        if found:
            most = max(found, key=found.__getitem__)
            lines.append(f"  {name}: {most}, {_number(found[most])} of {_number(sum(found.values()))} {unit}")
    needs = {role.name: max(role.training_peak, sum(role.answering_bytes.values())) / GIB for role in plan.models}
    most = max(needs, key=needs.__getitem__)
    fits = "fits" if needs[most] <= device.memory_gib else "DOES NOT FIT"
    lines.append(f"  memory: {most}, {needs[most]:.1f} GiB: {fits} {device.name} ({device.memory_gib:g} GiB)")
    if used := {what: size for what, size in plan.disk.items() if not what.endswith(UNUSED)}:
        most = max(used, key=used.__getitem__)
        lines.append(f"  disk: {most}, {_gib(plan.disk[most])} GiB")
    return lines


def _architectures(loader: ProjectConfigLoader, posts: list[Post], scale: float) -> list[str]:
    """A row an architecture, for the same posts, device and scale, all stages, every reasoning asked of a server."""
    rows = [("arch", "assistant", "student", "training GiB", "soft labels GiB", "hours", "USD", "teacher USD")]
    for arch in loader["parameters"]["architectures"]:
        groups = parameter_groups(loader.with_params({**loader.runtime_params, "arch": int(arch)}))
        try:
            plan = make_plan(groups, captioned(posts, groups["teacher"].captions.max_words))
        except WeightsError:
            # Another architecture than the run's, whose models of the user's own are not here.
            rows.append((arch, "its checkpoints are not at hand", *[""] * 6))
            continue
        hours = sum(work.hours for work in plan.work)
        peak = max(role.training_peak for role in plan.models)
        names = [role.shape.name.rpartition("/")[2].removesuffix("-Instruct") for role in plan.models]
        disk = plan.disk.get(f"soft labels, {groups['soft_labels'].kind}", 0)
        money = (hours * groups["dry_run_settings"].device.usd_per_hour, _teacher_usd(groups["teacher"], posts, scale))
        usd = ("no price" if each is None else _number(each) for each in money)
        rows.append((arch, names[0], names[-1], _gib(peak), _gib(disk), _number(hours), *usd))
    return [
        "all architectures: all stages, the same posts, scale and device (the teacher's price is that of every "
        f"reasoning; {SAMPLED_REQUESTS} posts a split stand for all):",
        *_table(rows),
    ]


def _teacher_usd(teacher: TeacherParameters, posts: list[Post], scale: float) -> float | None:
    """US dollars of all reasonings from the architecture's teacher, nothing known yet."""
    requests: list[tuple[Question, float]] = []
    splits: list[tuple[str, PostRole, float]] = [("train", "reasoning", scale), ("test", "reference", 1.0)]
    for split, role, times in splits:
        own = [post for post in posts if post.split == split]
        some = captioned(own[:SAMPLED_REQUESTS], teacher.captions.max_words)
        requests += [(Request(post, None, role, (), teacher.send), times * len(own) / len(some)) for post in some]
    return estimate(requests, teacher).usd if requests else 0.0


def _gib(size: float) -> str:
    return _number(size / GIB)


def _number(value: float) -> str:
    """Two places, or two digits of what is small."""
    return f"{value:,.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as aligned text, the first two columns to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        left = [cell.ljust(width) for cell, width in zip(row[:2], widths, strict=False)]
        right = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join([*left, *right]).rstrip())
    return lines
