"""How the sample's posts are composed: which modality decides, what each says, and so what the label is.

=========  =========================  ==================  ========================
kind       text                       image               label
=========  =========================  ==================  ========================
text       praise or complaint        neutral             what the text says
image      plain fact                 bright or dark      what the image shows
agree      irony-capable              of the same sign    what both say
conflict   irony-capable              of the other sign   what the image shows
neutral    plain fact                 neutral             neutral
=========  =========================  ==================  ========================

Texts of kinds agree and conflict come from the same frames and words, so that the text alone can't tell them apart.
"""

import random
from dataclasses import dataclass
from typing import Literal

from mulcot_rd.demo.sample_generator.drawing import SCENES
from mulcot_rd.demo.sample_generator.texts import Deck, Text, Writer
from mulcot_rd.schema import SPLITS, Sentiment, Split

Composition = Literal["text", "image", "agree", "conflict", "neutral"]

POSITIVE, NEUTRAL, NEGATIVE = Sentiment.POSITIVE, Sentiment.NEUTRAL, Sentiment.NEGATIVE

# Posts by split, kind and label: 27 percent text, 24 image, 10 agree, 14 conflict, 25 neutral in every split.
_COLUMNS: tuple[tuple[Composition, Sentiment], ...] = (
    ("text", POSITIVE), ("text", NEGATIVE), ("image", POSITIVE), ("image", NEGATIVE), ("agree", POSITIVE),
    ("agree", NEGATIVE), ("conflict", POSITIVE), ("conflict", NEGATIVE), ("neutral", NEUTRAL),
)  # fmt: skip
COUNTS: dict[Split, tuple[int, ...]] = {
    "train": (58, 50, 50, 46, 20, 20, 28, 28, 100),
    "dev": (12, 10, 10, 9, 4, 4, 5, 6, 20),
    "test": (17, 15, 15, 14, 6, 6, 9, 8, 30),
}


@dataclass(frozen=True)
class ComposedPost:
    """A post before its image is drawn."""

    id: str
    split: Split
    label: Sentiment
    kind: Composition
    text: Text
    text_polarity: Sentiment
    image_polarity: Sentiment
    scene: str


def polarities(kind: Composition, label: Sentiment) -> tuple[Sentiment, Sentiment]:
    """What the words of the text say, taken literally, and what the image shows."""
    opposite = {POSITIVE: NEGATIVE, NEGATIVE: POSITIVE}
    if kind == "conflict":
        return opposite[label], label
    text = label if kind in ("text", "agree") else NEUTRAL
    image = label if kind in ("image", "agree") else NEUTRAL
    return text, image


def compose(seed: int) -> list[ComposedPost]:
    """All posts of the sample in the order of the file, as a function of the seed alone."""
    written: set[str] = set()
    posts: list[ComposedPost] = []
    for split in SPLITS:
        rng = random.Random(f"{seed} {split}")
        writer = Writer(rng, written)
        scenes = {polarity: Deck(sorted(SCENES[polarity]), rng) for polarity in Sentiment}
        plan = [key for key, count in zip(_COLUMNS, COUNTS[split], strict=True) for _ in range(count)]
        rng.shuffle(plan)
        for number, (kind, label) in enumerate(plan, start=1):
            text_polarity, image_polarity = polarities(kind, label)
            if text_polarity is NEUTRAL:
                text = writer.write("fact", NEUTRAL)
            else:
                text = writer.write("plain" if kind == "text" else "irony-capable", text_polarity)
            posts.append(
                ComposedPost(
                    id=f"{split}-{number:03d}",
                    split=split,
                    label=label,
                    kind=kind,
                    text=text,
                    text_polarity=text_polarity,
                    image_polarity=image_polarity,
                    scene=scenes[image_polarity].deal(),
                )
            )
    return posts
