"""One page a run, ``report.html``: what it scored, how it learned, where it is wrong, and what it was made of."""

import base64
import random
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, TypeVar

import pandas as pd
import yaml
from jinja2 import Environment, StrictUndefined
from markdown_it import MarkdownIt

from mulcot_rd.metrics import confusion_matrix
from mulcot_rd.metrics.classification import UNREADABLE
from mulcot_rd.metrics.quality import modality_conflict
from mulcot_rd.numbers import interval_text, percent_text
from mulcot_rd.reporting.cells import fractions
from mulcot_rd.reporting.display import LABEL_PROMPT, REASONING_PROMPT, Html, Written, side_by_side
from mulcot_rd.reporting.quality_tables import SYSTEMS
from mulcot_rd.reporting.sources import source_of_run, teacher_row
from mulcot_rd.reporting.writers import laid_out
from mulcot_rd.schema import Post, PredictionRecord, TeacherRecord

ItemT = TypeVar("ItemT")
Confusion = Mapping[str, Mapping[str, int]]


def drawn(items: Sequence[ItemT], most: int, seed: int) -> list[ItemT]:
    """The items, or so many of them, drawn with a seed."""
    return random.Random(seed).sample(list(items), min(most, len(items)))


def score_rows(metrics: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Every score of the teacher and the models with its 95 percent interval, percent.

    Args:
        metrics: The contents of ``metrics.json``.

    Returns:
        The systems, and of each score its name and a cell a system.
    """
    blocks = {name: metrics[name] for name in SYSTEMS if metrics.get(name)}
    names = dict.fromkeys(name for block in blocks.values() for name in fractions(block))

    def cell(block: Mapping[str, Any], name: str) -> str:
        if block.get(name) is None:
            return ""
        ends = block.get("intervals", {}).get(name)
        return percent_text(block[name]) + (f" ({interval_text(*ends)})" if ends else "")

    return list(blocks), [(name, [cell(block, name) for block in blocks.values()]) for name in names]


def confusions(metrics: Mapping[str, Any], answers: Mapping[str, Sequence[PredictionRecord]]) -> dict[str, Confusion]:
    """Posts by gold label and, within that, by answered label: of the teacher, and of each prompt of each model.

    Args:
        metrics: The contents of ``metrics.json``, which has the teacher's.
        answers: Model to its answers on the test split.
    """
    taught = metrics.get("teacher", {}).get("confusion")
    provider = metrics.get("run", {}).get("teacher_provider")
    found = {teacher_row(provider, "stage one"): taught} if taught else {}
    for model, records in answers.items():
        gold = [record.label for record in records]
        if any(record.label_attempts for record in records):
            found[f"{model}, {LABEL_PROMPT}"] = confusion_matrix([record.prediction for record in records], gold)
        if any(record.attempts for record in records):
            read = [record.reasoning_prediction for record in records]
            found[f"{model}, {REASONING_PROMPT}"] = confusion_matrix(read, gold)
    unreadable = any(counts[UNREADABLE] for confusion in found.values() for counts in confusion.values())
    return {
        name: {
            row: {label: count for label, count in counts.items() if unreadable or label != UNREADABLE}
            for row, counts in confusion.items()
        }
        for name, confusion in found.items()
    }


def answers_section(
    posts: Sequence[Post],
    answers: Mapping[str, Sequence[PredictionRecord]],
    references: Sequence[TeacherRecord],
    metrics: Mapping[str, Any],
    *,
    scale: str,
    most: int,
    seed: int,
) -> dict[str, Any]:
    """What the page shows of answers to the test posts: scores, confusion matrices, errors, modality conflicts.

    A post has a modality conflict where the teacher's Text_analysis comes to positive and its Image_analysis to
    negative, or the other way round; where the teacher wrote nothing, the model's own sections count.

    Args:
        posts: All posts.
        answers: Model to its answers, without models that there are none of.
        references: The teacher's reasonings on the test split.
        metrics: The contents of ``metrics.json``.
        scale: ``tiny`` or ``full``.
        most: Posts shown of the errors, and of the conflicts; of more so many are drawn.
        seed: Draws them.

    Raises:
        ImageError: If an image can't be opened.
    """
    systems, scores = score_rows(metrics)
    section: dict[str, Any] = {
        "source": source_of_run(scale, metrics.get("run", {})),
        "systems": systems,
        "scores": scores,
        "confusions": confusions(metrics, answers),
        "model": None,
    }
    if not answers:
        return section
    model, records = next((name, answers[name]) for name in reversed(SYSTEMS) if name in answers)
    reasonings = {each.id: each.reasoning for each in records} | {each.id: each.reasoning for each in references}
    right = {record.id: record.prediction == record.label for record in records}
    wrong = [post for post in posts if right.get(post.id) is False]
    conflicts = [post for post in posts if post.id in right and modality_conflict(reasonings[post.id])]
    written: dict[str, Written] = {"teacher": references, **answers}

    def shown(of: Sequence[Post]) -> Html:
        return side_by_side(drawn(of, most, seed), written)

    return section | {
        "model": model,
        "posts": len(records),
        "wrong": len(wrong),
        "errors_shown": min(most, len(wrong)),
        "errors": shown(wrong).text,
        "conflicts": len(conflicts),
        "conflicts_right": sum(right[post.id] for post in conflicts),
        "conflicts_shown": min(most, len(conflicts)),
        "conflict_posts": shown(conflicts).text,
    }


def report_page(
    title: str,
    tables: Mapping[str, pd.DataFrame],
    figures: Mapping[str, bytes],
    answers: Mapping[str, Any],
    origin: Mapping[str, Any],
) -> str:
    """The page, which needs no other file and no network.

    Args:
        title: Names the run.
        tables: Heading to a table of the run's reports.
        figures: Heading to a figure, as PNG.
        answers: What :func:`answers_section` gives.
        origin: ``teacher`` (its report, Markdown), ``changed`` (parameters other than the defaults), ``config`` (all of
            them) and ``lineage`` (lines); what is not on disk is empty.
    """
    template = (files(__package__) / "report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    # Posts and models may have written anything: no HTML of theirs is taken as such.
    to_html = MarkdownIt("commonmark", {"html": False}).enable("table").render
    return environment.from_string(template).render(
        title=f"{title}: {answers['source']}",
        tables={name: laid_out(frame.dropna(axis="columns", how="all")) for name, frame in tables.items()},
        figures={name: f"data:image/png;base64,{base64.b64encode(png).decode()}" for name, png in figures.items()},
        answers=answers,
        teacher=to_html(origin["teacher"] or ""),
        changed=origin["changed"],
        config=yaml.safe_dump(dict(origin["config"]), sort_keys=False, allow_unicode=True) if origin["config"] else "",
        lineage="\n".join(origin["lineage"]),
    )
