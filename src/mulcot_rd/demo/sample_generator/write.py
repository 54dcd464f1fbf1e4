"""Writing the sample to disk."""

import csv
import random
from importlib.resources import files
from pathlib import Path

from mulcot_rd.demo.sample_generator.composition import ComposedPost, compose
from mulcot_rd.demo.sample_generator.drawing import draw_jpeg
from mulcot_rd.ingest.sample import COLUMNS, POSTS_FILE
from mulcot_rd.progress import progress

CUES_FILE = "cues.csv"
CUES_COLUMNS = ("id", "kind", "text_polarity", "text_cues", "image_polarity", "scene")
NOTES = ("README.md", "LICENSE")


def write_sample(out: Path, seed: int) -> list[ComposedPost]:
    """Write posts.csv, cues.csv, images/, README.md and LICENSE; the same bytes for the same seed.

    Args:
        out: The folder; made if it is missing, files of the same names are overwritten.
        seed: Seed of texts and images.

    Returns:
        What was written, in the order of posts.csv.
    """
    posts = compose(seed)
    images = out / "images"
    images.mkdir(parents=True, exist_ok=True)
    for post in progress(posts, desc="drawing the sample", unit="image"):
        # Each image has a random source of its own: a change of one scene leaves the other images as they are.
        jpeg = draw_jpeg(post.image_polarity, post.scene, random.Random(f"{seed} {post.id}"))
        (images / _image_name(post)).write_bytes(jpeg)
    _write_csv(
        out / POSTS_FILE,
        COLUMNS,
        [(p.id, p.split, p.text.text, p.text.aspect, _image_name(p), p.label.value) for p in posts],
    )
    _write_csv(
        out / CUES_FILE,
        CUES_COLUMNS,
        [(p.id, p.kind, p.text_polarity.value, " ".join(p.text.cues), p.image_polarity.value, p.scene) for p in posts],
    )
    for name in NOTES:
        note = (files(__package__) / f"{Path(name).stem.lower()}_note.txt").read_text(encoding="utf-8")
        (out / name).write_text(note.replace("{seed}", str(seed)), encoding="utf-8", newline="\n")
    return posts


def _image_name(post: ComposedPost) -> str:
    return f"{post.id}.jpg"


def _write_csv(path: Path, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
