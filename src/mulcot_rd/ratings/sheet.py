"""Blind rating sheets: reasonings of several systems in random order, without a word on who wrote which."""

import random
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import pandas as pd
from jinja2 import Environment

from mulcot_rd.errors import UserError
from mulcot_rd.files import read_text, write_text
from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.images import thumbnail_uri
from mulcot_rd.reasoning import SECTION_KEYS
from mulcot_rd.schema import Post, Reasoning, Sentiment

SCALE = (1, 2, 3, 4, 5)
# Column of the sheet to what the rater is asked.
CRITERIA = {
    "text_faithful": "What it says about the text is true of the text.",
    "image_faithful": "What it says about the image is true of the image.",
    "coherent": "The conclusion follows from what is said before it.",
    "convincing": "It would convince me that the verdict is right.",
}
SENTIMENT = "sentiment"
# Pixels of the longer side; the sheet shows half as many, for screens of twice the resolution.
_IMAGE_SIDE = 640


def make_sheet(
    posts: Sequence[Post], systems: Mapping[str, Mapping[str, Reasoning]], *, posts_rated: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw posts and shuffle what the systems wrote of them.

    Every drawn post is rated once for every system, so that systems are compared on the same posts.

    Args:
        posts: The posts to draw from.
        systems: System to post id to its reasoning; only posts that every system has are drawn.
        posts_rated: How many posts to draw, at most.
        seed: Of the draw and of the order.

    Returns:
        The sheet (item, text, aspect, image, reasoning, then empty columns for the rater) and its key (item, post_id,
        system, prediction), which the rater must not see. Names of items end in a mark of the sheet: another sheet, or
        the same posts with other reasonings, has others.

    Raises:
        UserError: If there is no system, or no post has a reasoning of every system.
    """
    if not systems:
        raise UserError("this run has no reasonings to rate: run the evaluation pipeline of a variant that writes some")
    shared = [post for post in posts if all(post.id in written for written in systems.values())]
    if not shared:
        raise UserError(f"no post has a reasoning of each of {', '.join(systems)}: evaluate them on the same posts")
    draw = random.Random(seed)
    drawn = draw.sample(shared, min(posts_rated, len(shared)))
    pairs = [(post, system) for post in drawn for system in systems]
    draw.shuffle(pairs)
    mark = fingerprint([[post.id, system, systems[system][post.id].model_dump(mode="json")] for post, system in pairs])
    sheet, key = [], []
    for number, (post, system) in enumerate(pairs, start=1):
        item = f"item-{number:03d}-{mark[:6]}"
        reasoning = systems[system][post.id]
        sheet.append(
            {
                "item": item,
                "text": post.text,
                "aspect": post.aspect or "",
                "image": post.image,
                "reasoning": _readable(reasoning),
                SENTIMENT: "",
                **dict.fromkeys(CRITERIA, ""),
            }
        )
        label = reasoning.prediction.value if reasoning.prediction else ""
        key.append({"item": item, "post_id": post.id, "system": system, "prediction": label})
    return pd.DataFrame(sheet), pd.DataFrame(key)


def write_sheet(sheet: pd.DataFrame, key: pd.DataFrame, folder: Path) -> dict[str, Path]:
    """Write ``sheet.csv``, ``sheet.html`` (with images, filled in and saved in a browser) and ``key.csv``.

    What is there already of the same sheet stays: a rater may have filled it in.

    Raises:
        ImageError: If an image can't be opened.
        UserError: If the key of another sheet is there: its filled sheets could no longer be scored.
    """
    makers: dict[str, Callable[[], str]] = {
        "sheet.html": lambda: _html(sheet),
        "sheet.csv": lambda: sheet.to_csv(index=False, lineterminator="\n"),
        "key.csv": lambda: key.to_csv(index=False, lineterminator="\n"),
    }
    paths = {name: folder / name for name in makers}
    if paths["key.csv"].is_file() and read_text(paths["key.csv"], UserError) != makers["key.csv"]():
        raise UserError(
            f"{paths['key.csv']} is the key of another sheet, which raters may have: move {folder} away first"
        )
    for name, path in paths.items():
        if not path.exists():
            write_text(path, makers[name]())
    return paths


def _readable(reasoning: Reasoning) -> str:
    """The four sections and the verdict, each on a line of its own."""
    sections = zip(SECTION_KEYS, reasoning.sections.values(), strict=True)
    lines = [f"{key.replace('_', ' ')}: {' '.join(text.split()) or '(not written)'}" for key, text in sections]
    return "\n".join([*lines, f"Verdict: {reasoning.prediction.value if reasoning.prediction else 'none'}"])


def _html(sheet: pd.DataFrame) -> str:
    template = (files(__package__) / "sheet.html.j2").read_text(encoding="utf-8")
    rows = sheet.to_dict("records")
    pictures = {row["image"]: thumbnail_uri(row["image"], _IMAGE_SIDE) for row in rows}
    return (
        Environment(autoescape=True)
        .from_string(template)
        .render(
            rows=rows,
            pictures=pictures,
            criteria=CRITERIA,
            scale=SCALE,
            sentiments=[label.value for label in Sentiment],
            sentiment=SENTIMENT,
            sheet_id=fingerprint(rows),
        )
    )
