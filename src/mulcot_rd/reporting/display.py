"""Posts with their images and what was written of them, side by side, for notebooks and the case study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from itertools import product
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined, Template

from mulcot_rd.images import thumbnail_uri
from mulcot_rd.metrics.quality import quotes
from mulcot_rd.reasoning import SECTION_KEYS
from mulcot_rd.reporting.writers import Decimals, laid_out
from mulcot_rd.schema import Post, PredictionRecord, Reasoning, Sentiment, TeacherRecord

Written = Sequence[TeacherRecord] | Sequence[PredictionRecord]

GOLD = "gold"
LABEL_PROMPT, REASONING_PROMPT = "label prompt", "reasoning"
UNREADABLE = "no readable label"
# Pixels of an image's longer side.
_IMAGE_SIDE = 320


@dataclass(frozen=True)
class Html:
    """A piece of HTML that a notebook shows as such."""

    text: str

    def _repr_html_(self) -> str:
        return self.text


def page(title: str, body: Html) -> str:
    """A page of its own, which needs no other file and no network.

    Args:
        title: Its heading, plain text.
        body: What it shows.
    """
    heading = escape(title)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{heading}</title>\n</head>\n'
        f'<body style="font-family: system-ui, sans-serif">\n<h1 style="font-size: 1.2em">{heading}</h1>\n'
        f"{body.text}\n</body>\n</html>\n"
    )


def table(frame: pd.DataFrame, decimals: Mapping[str, Decimals] | None = None, *, compared: bool = True) -> Html:
    """A table as the reports lay it out, for notebooks; a wide one scrolls, and missing values are empty cells.

    Args:
        frame: The cells; columns without any value, and the index, are left out.
        decimals: Fewest and most decimals of a column, where exactly one is not right.
        compared: Whether the best score of a column is bold and the second best underlined.
    """
    layout = laid_out(frame.dropna(axis="columns", how="all"), decimals, compared=compared)
    return Html(_template("table.html.j2").render(layout=layout))


def post_cards(posts: Sequence[Post]) -> Html:
    """Posts as they are: image, text, aspect and gold label.

    Raises:
        ImageError: If an image can't be opened.
    """
    return side_by_side(posts, {})


def side_by_side(posts: Sequence[Post], systems: Mapping[str, Written]) -> Html:
    """Posts with their images, and beneath each what every system wrote of it, a column a system.

    All text is escaped: a post is data, whatever it contains. Words that a Text_analysis quotes and the post does not
    have are marked. The tick is the label's: of the reasoning nobody knows whether it is right.

    Args:
        posts: The posts to show, in order.
        systems: Name of a system to its records; one that wrote nothing at all has no column, one that lacks a post
            says so.

    Raises:
        ImageError: If an image can't be opened.
    """
    by_system = {name: {record.id: record for record in records} for name, records in systems.items() if records}
    articles = [
        {
            "post": post,
            "image": thumbnail_uri(post.image, _IMAGE_SIDE),
            "columns": [_column(name, records.get(post.id), post) for name, records in by_system.items()],
        }
        for post in posts
    ]
    return Html(_template("display.html.j2").render(articles=articles))


def answers_frame(posts: Sequence[Post], systems: Mapping[str, Written]) -> pd.DataFrame:
    """One row a post: its text, its gold label, and the label that every system came to by each of its prompts.

    Args:
        posts: The posts.
        systems: Name of a system to its records.

    Returns:
        Columns ``text``, ``aspect``, ``gold``, then one a system that writes reasonings alone (the teacher), and
        ``<system>, label prompt`` and ``<system>, reasoning`` of every other one; indexed by the posts' ids. A label
        that can't be read is "no readable label"; a post that a system has no answer for is missing there.
    """
    frame = pd.DataFrame(
        {"text": [p.text for p in posts], "aspect": [p.aspect for p in posts], GOLD: [p.label.value for p in posts]},
        index=pd.Index([post.id for post in posts], name="id"),
    )
    for name, records in systems.items():
        labels = {record.id: _labels(record) for record in records}
        prompts = dict.fromkeys(prompt for found in labels.values() for prompt in found)
        for prompt in prompts:
            column = f"{name}, {prompt}" if prompt else name
            frame[column] = [labels.get(post_id, {}).get(prompt) for post_id in frame.index]
    return frame


def disagreements(answers: pd.DataFrame) -> pd.DataFrame:
    """On how many posts each two columns of labels differ, over the posts that both have a label for.

    Args:
        answers: What :func:`answers_frame` gives.
    """
    columns = [column for column in answers.columns if column not in ("text", "aspect")]
    counts = {(one, other): len(differing(answers, one, other)) for one, other in product(columns, columns)}
    return pd.DataFrame([[counts[one, other] for other in columns] for one in columns], index=columns, columns=columns)


def differing(answers: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
    """The rows in which two columns of labels are both there and differ.

    None where the run has no such column: some variants have one model alone, or ask for one answer alone.
    """
    if not {one, other} <= set(answers.columns):
        return answers.iloc[:0]
    both = answers[[one, other]].notna().all(axis="columns")
    return answers[both & (answers[one] != answers[other])]


def _template(name: str) -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string((files(__package__) / name).read_text(encoding="utf-8"))


def _labels(record: TeacherRecord | PredictionRecord) -> dict[str, str]:
    """The label that a record holds by each prompt that was asked; a teacher's has no prompt's name."""
    if isinstance(record, TeacherRecord):
        return {"": _label(record.prediction)}
    asked = {
        LABEL_PROMPT: (record.label_attempts, record.prediction),
        REASONING_PROMPT: (record.attempts, record.reasoning_prediction),
    }
    return {prompt: _label(label) for prompt, (attempts, label) in asked.items() if attempts}


def _label(label: Sentiment | None) -> str:
    return UNREADABLE if label is None else label.value


def _column(name: str, record: TeacherRecord | PredictionRecord | None, post: Post) -> dict[str, Any]:
    if record is None:
        return {"name": name, "sections": [], "verdicts": [], "remark": "wrote nothing of this post"}
    told = isinstance(record, TeacherRecord) and record.stage == 2
    return {
        "name": name,
        "remark": "was told the label" if told else "",
        "sections": list(zip(SECTION_KEYS, _pieces(record.reasoning, post), strict=True)),
        "verdicts": [
            {"prompt": prompt or REASONING_PROMPT, "label": label, "right": label == post.label.value}
            for prompt, label in _labels(record).items()
        ],
    }


def _pieces(reasoning: Reasoning, post: Post) -> list[list[tuple[str, bool]]]:
    """Each section in pieces, each with whether it is a quotation that the post does not have."""
    first, *others = reasoning.sections.values()
    pieces, end = [], 0
    for quote in quotes(reasoning, post):
        pieces += [(first[end : quote.start], False), (first[quote.start : quote.end], not quote.in_post)]
        end = quote.end
    return [[*pieces, (first[end:], False)], *([(section, False)] for section in others)]
