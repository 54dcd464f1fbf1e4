"""The dry run's report: one table for the run, one with a row an architecture."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from kedro.io import DataCatalog
from pydantic import ValidationError

from mulcot_rd.config import ProjectConfigLoader
from mulcot_rd.errors import UserError
from mulcot_rd.frames import posts_from_frame
from mulcot_rd.ingest import IngestError, IngestParameters, read_unchecked
from mulcot_rd.models import WeightsError
from mulcot_rd.planning.cost_model import GIB
from mulcot_rd.planning.plan import (
    TEXT_CHARACTERS,
    UNUSED,
    Plan,
    Settings,
    captioned,
    make_plan,
    published_posts,
)
from mulcot_rd.schema import SPLITS, Post
from mulcot_rd.teacher.annotate import annotator
from mulcot_rd.teacher.captions import CaptionQuestion
from mulcot_rd.teacher.dry_run import ANSWER_TOKENS, Estimate, estimate, follow
from mulcot_rd.teacher.judge import Conclusion
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.questions import Question, Request, ask
from mulcot_rd.teacher.server import run

# Requests a second that the client has reached (docs/benchmarks.md, The teacher's client).
CLIENT_REQUESTS = 299
# Posts of a split that stand for all of them in the table of all architectures.
SAMPLED_REQUESTS = 100
# A conclusion to judge, in characters: an assumption.
CONCLUSION = "x" * 200


def report(catalog: DataCatalog, loader: ProjectConfigLoader, stages: Sequence[str]) -> str:
    """What the run would take, as text; no weights are loaded and nothing is asked.

    Args:
        catalog: The run's catalog.
        loader: The configuration, for the other architectures.
        stages: The pipelines of the run; work of others is left out.

    Raises:
        UserError: If there are no posts, raw data, or numbers of the paper, or a parameter is refused.
    """
    try:
        settings = Settings.of(lambda name: catalog.load(f"params:{name}"))
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(map(str, fault["loc"]))
        raise UserError(f"{error.title}: {name}: {fault['msg']} (given: {fault['input']})") from error
    posts, source = _posts(catalog, settings)
    plan = make_plan(settings, captioned(posts, settings.teacher.captions.max_words))
    scale = plan.posts["train"] / max(1, sum(post.split == "train" for post in posts))
    # Loading it would make its folder.
    ledger = Path(catalog.get("teacher_ledger")._describe()["filepath"])
    asked = _asked(settings, posts, ledger, scale, stages)
    lines = [
        f"dry run of {plan.run.name} on {plan.run.dataset}: nothing is done. Device: {plan.device.name}.",
        f"posts: {', '.join(f'{split} {plan.posts[split]:,}' for split in SPLITS)} ({source})",
        f"training rows: {', '.join(f'{role} {number:,}' for role, number in plan.rows.items())} (assumption for N_a: "
        f"{plan.kept:.1%} of the assistant's reasonings are correct, Table 8)",
        "tokens a row: " + ", ".join(f"{role} {row.tokens:.0f}" for role, row in plan.row.items()),
        "",
        *_work(plan, stages),
        *_memory(plan),
        *_disk(plan),
    ]
    if not asked:
        lines += ["server: nothing to ask", ""]
    for what, each in asked.items():
        lines += [f"server, {what}:", *each.lines, ""]
    lines += [*_bottleneck(plan, asked, stages), "", *_architectures(loader, posts, scale)]
    return "\n".join(lines)


def _posts(catalog: DataCatalog, settings: Settings) -> tuple[list[Post], str]:
    run = settings.run
    if catalog.exists("posts"):
        return posts_from_frame(catalog.load("posts")), "posts.parquet"
    try:
        ingest = IngestParameters.model_validate(catalog.load("params:ingest"))
        found = read_unchecked(run.dataset, Path(run.raw_dir), ingest)
    except IngestError as error:
        cure = f"run `kedro run --pipeline data_preparation` first, with the same --params: {error}"
        if made_up := published_posts(run.dataset, run.limit):
            return made_up, f"numbers of Table 1, texts of {TEXT_CHARACTERS} characters. To count your posts, {cure}"
        raise UserError(f"dry_run counts posts, and there are none: {cure}") from error
    kept = [post for split in SPLITS for post in [p for p in found if p.split == split][: run.limit]]
    if not kept:
        raise UserError(f"data set {run.dataset}: no raw row is a post; run `kedro run --pipeline data_preparation`")
    return kept, f"raw data in {run.raw_dir}, images not opened"


def _asked(
    settings: Settings, posts: list[Post], ledger: Path, scale: float, stages: Sequence[str]
) -> dict[str, Estimate]:
    """What servers would be asked, by the teacher's own dry run; what the ledger has needs no request.

    Requests about training posts count ``scale`` times, those about test posts once.
    """
    teacher, judge = settings.teacher, settings.judge
    train, test = ([post for post in posts if post.split == split] for split in ("train", "test"))
    found: dict[str, tuple[list[tuple[Question, float]], TeacherParameters]] = {}
    if "teacher_annotation" in stages:
        captioner = teacher.for_captions()
        needed = settings.roles["assistant"].inputs.captions_needed
        images = posts if needed else train + test if teacher.send == "caption" else []
        if captioner.provider == "openai":
            questions = [CaptionQuestion(image, teacher.captions.max_words) for image in {p.image: 0 for p in images}]
            work = partial(ask, max_retries=captioner.max_retries)
            found["captions"] = (_open(questions, work, captioner, ledger, "image", scale), captioner)
        if teacher.writer == "openai":
            if teacher.send == "caption":
                train, test = (captioned(own, teacher.captions.max_words) for own in (train, test))
            annotate_one = annotator(train + test, teacher)
            open_questions = [
                *_open([(post, "reasoning") for post in train], annotate_one, teacher, ledger, "post", scale),
                *_open([(post, "reference") for post in test], annotate_one, teacher, ledger, "post", 1.0),
            ]
            found["reasonings"] = (open_questions, teacher)
    if "evaluation" in stages:
        # Teacher, assistant and student.
        judged = [(Conclusion(post.id, post.aspect, CONCLUSION), 3.0) for post in test[: judge.posts]]
        found["judge"] = (judged, judge.teacher)
    return {what: estimate(questions, asked) for what, (questions, asked) in found.items() if questions}


def _open(
    jobs: Sequence[Any], work: Callable[..., Any], parameters: TeacherParameters, ledger: Path, unit: str, times: float
) -> list[tuple[Question, float]]:
    """The open questions of these jobs, each so many times."""
    _, reached = run(follow(jobs, work, parameters, ledger, unit))
    return [(question, times) for question in reached]


def _work(plan: Plan, stages: Sequence[str]) -> list[str]:
    rows = [("stage", "work", "steps", "tokens", "hours", "USD")]
    for work in plan.work:
        if work.stage in stages:
            steps = "" if work.steps is None else f"{work.steps:,}"
            usd = _number(work.hours * plan.device.usd_per_hour)
            rows.append((work.stage, work.what, steps, f"{work.tokens:,.0f}", _number(work.hours), usd))
    shares = plan.device.utilisation
    return [
        *_table(rows),
        f"  - all epochs; {plan.device.tflops:g} TFLOP/s and {plan.device.bandwidth_tb_s:g} TB/s, of which training "
        f"reaches {shares.training:.2%} ({shares.training_activations_kept:.2%} with activations kept), soft labels "
        f"{shares.soft_labels:.2%}, answering {shares.answering:.1%}; {plan.device.usd_per_hour:g} USD an hour",
        "  - answers are first answers, written by the device even where generation.backend is served; reasonings have "
        f"{ANSWER_TOKENS} tokens (mean of the authors' released ones)",
        "",
    ]


def _memory(plan: Plan) -> list[str]:
    parts = list(plan.memory[0].training)
    rows = [("GiB", *(each.role for each in plan.memory))]
    rows += [("model", *(each.shape.name for each in plan.memory))]
    rows += [("parameters", *(f"{each.shape.total:,}" for each in plan.memory))]
    rows += [("trained", *(f"{each.shape.trained:,}" for each in plan.memory))]
    for part in parts:
        rows.append((f"training: {part}", *(_gib(each.training[part]) for each in plan.memory)))
    if parts:
        rows.append(("training, as configured", *(_gib(each.training_peak) for each in plan.memory)))
    for part in plan.memory[0].answering:
        rows.append((f"answering: {part}", *(_gib(each.answering[part]) for each in plan.memory)))
    return [*_table(rows), ""]


def _disk(plan: Plan) -> list[str]:
    rows = [("disk", "GiB"), *((what, _gib(size)) for what, size in plan.disk.items())]
    return [*_table(rows), ""] if plan.disk else []


def _bottleneck(plan: Plan, asked: Mapping[str, Estimate], stages: Sequence[str]) -> list[str]:
    hours = {f"{work.stage}, {work.what}": work.hours for work in plan.work if work.stage in stages}
    money = {what: time * plan.device.usd_per_hour for what, time in hours.items()}
    for what, each in asked.items():
        taken = each.requests / CLIENT_REQUESTS / 3600
        hours[f"server, {what} (at least: {CLIENT_REQUESTS} requests a second)"] = taken
        money |= {} if each.usd is None else {f"server, {what}": each.usd}
    lines = ["bottlenecks:"]
    for name, found, unit in (("time", hours, "hours"), ("money", money, "USD")):
        if found:
            most = max(found, key=found.get)
            lines.append(f"  {name}: {most}, {_number(found[most])} of {_number(sum(found.values()))} {unit}")
    needs = {each.role: max(each.training_peak, sum(each.answering.values())) / GIB for each in plan.memory}
    role = max(needs, key=needs.get)
    fits = "fits" if needs[role] <= plan.device.memory_gib else "DOES NOT FIT"
    lines.append(f"  memory: {role}, {needs[role]:.1f} GiB: {fits} {plan.device.name} ({plan.device.memory_gib:g} GiB)")
    if used := {what: size for what, size in plan.disk.items() if not what.endswith(UNUSED)}:
        most = max(used, key=used.get)
        lines.append(f"  disk: {most}, {_gib(plan.disk[most])} GiB")
    return lines


def _architectures(loader: ProjectConfigLoader, posts: list[Post], scale: float) -> list[str]:
    """A row an architecture, for the same posts, device and scale, all stages, every reasoning asked of a server."""
    rows = [("arch", "assistant", "student", "training GiB", "soft labels GiB", "hours", "USD", "teacher USD")]
    given = loader.runtime_params
    for arch in loader["parameters"]["architectures"]:
        parameters = loader.with_params({**given, "arch": int(arch)})["parameters"]
        settings = Settings.of(parameters.__getitem__)
        try:
            plan = make_plan(settings, captioned(posts, settings.teacher.captions.max_words))
        except WeightsError:
            # Another architecture than the run's, whose models of the user's own are not here.
            rows.append((arch, "its checkpoints are not at hand", *[""] * 6))
            continue
        hours = sum(work.hours for work in plan.work)
        peak = max(each.training_peak for each in plan.memory)
        names = [each.shape.name.rpartition("/")[2].removesuffix("-Instruct") for each in plan.memory]
        disk = plan.disk.get(f"soft labels, {settings.soft_labels.kind}", 0)
        money = (hours * plan.device.usd_per_hour, _teacher_usd(settings, posts, scale))
        usd = ("no price" if each is None else _number(each) for each in money)
        rows.append((arch, names[0], names[-1], _gib(peak), _gib(disk), _number(hours), *usd))
    return [
        "all architectures: all stages, the same posts, scale and device (the teacher's price is that of every "
        f"reasoning; {SAMPLED_REQUESTS} posts a split stand for all):",
        *_table(rows),
    ]


def _teacher_usd(settings: Settings, posts: list[Post], scale: float) -> float | None:
    """US dollars of all reasonings from the architecture's teacher, nothing known yet."""
    teacher = settings.teacher.model_copy(update={"provider": "openai", "import_path": None})
    parts = []
    for split, role, factor in (("train", "reasoning", scale), ("test", "reference", 1.0)):
        own = [post for post in posts if post.split == split]
        some = captioned(own[:SAMPLED_REQUESTS], teacher.captions.max_words)
        requests = [Request(post, None, role, (), teacher.send) for post in some]
        parts += [(request, factor * len(own) / len(some)) for request in requests]
    return estimate(parts, teacher).usd if parts else 0.0


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
