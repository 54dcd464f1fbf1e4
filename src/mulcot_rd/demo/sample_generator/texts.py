"""Writing the text of a post: a frame, filled with cues that are dealt out evenly."""

import random
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from mulcot_rd.demo.sample_generator import words
from mulcot_rd.schema import Sentiment

TextForm = Literal["plain", "irony-capable", "fact"]
T = TypeVar("T")


@dataclass(frozen=True)
class Text:
    """A text, the aspect in it, and the cue words in it (none in a fact)."""

    text: str
    aspect: str
    cues: tuple[str, ...]


class Deck(Generic[T]):
    """Deals the items of a shuffled deck and shuffles anew when it is used up: counts differ by one at most."""

    def __init__(self, items: Sequence[T], rng: random.Random) -> None:
        self._items = list(items)
        self._rng = rng
        self._left: list[T] = []

    def deal(self) -> T:
        """The next item."""
        if not self._left:
            self._left = self._rng.sample(self._items, len(self._items))
        return self._left.pop()


class Writer:
    """Writes the texts of one split; no text is written twice by writers that share ``written``.

    Args:
        rng: Source of all choices.
        written: The texts written so far; every new one is added.
    """

    def __init__(self, rng: random.Random, written: set[str]) -> None:
        self._rng = rng
        self._written = written
        self._aspects = Deck([(name, kind) for kind in words.KINDS for name in kind.names], rng)
        self._frames: dict[tuple[TextForm, Sentiment], Deck[str]] = {}
        for polarity in (Sentiment.POSITIVE, Sentiment.NEGATIVE):
            self._frames["plain", polarity] = Deck(words.PLAIN_FRAMES, rng)
        self._frames["irony-capable", Sentiment.POSITIVE] = Deck(words.PRAISE_FRAMES, rng)
        self._frames["irony-capable", Sentiment.NEGATIVE] = Deck(words.SLANG_FRAMES, rng)
        self._frames["fact", Sentiment.NEUTRAL] = Deck(words.FACT_FRAMES, rng)
        praise, verbs = Deck(words.POSITIVE_ADJECTIVES, rng), Deck(words.POSITIVE_VERBS, rng)
        self._cues: dict[tuple[TextForm, Sentiment], tuple[Deck[str], Deck[str]]] = {
            ("plain", Sentiment.POSITIVE): (praise, verbs),
            ("irony-capable", Sentiment.POSITIVE): (praise, verbs),
            ("plain", Sentiment.NEGATIVE): (Deck(words.NEGATIVE_ADJECTIVES, rng), Deck(words.NEGATIVE_VERBS, rng)),
            ("irony-capable", Sentiment.NEGATIVE): (Deck(words.SLANG_ADJECTIVES, rng), Deck(words.SLANG_VERBS, rng)),
        }

    def write(self, form: TextForm, polarity: Sentiment) -> Text:
        """Write a new text.

        Args:
            form: Said as meant, irony-capable, or a plain fact.
            polarity: What its words say, taken literally; neutral for facts.
        """
        aspect, kind = self._aspects.deal()
        frame = self._frames[form, polarity].deal()
        cues = self._deal_cues(frame, form, polarity)
        while True:
            text = self._fill(frame, aspect, kind, cues)
            if text not in self._written:
                break
            aspect, kind = self._aspects.deal()
        self._written.add(text)
        # Slang verbs stand in the frame itself.
        spoken = tuple(verb for verb in words.SLANG_VERBS if verb in frame) + tuple(cues.values())
        return Text(text=text, aspect=aspect, cues=spoken)

    def _deal_cues(self, frame: str, form: TextForm, polarity: Sentiment) -> dict[str, str]:
        slots = {name for _, name, _, _ in string.Formatter().parse(frame) if name}
        if form == "fact":
            return {}
        adjectives, verbs = self._cues[form, polarity]
        cues: dict[str, str] = {}
        for slot in sorted(slots & {"a", "b", "c"}):
            cue = adjectives.deal()
            while cue in cues.values():  # where one deck ends and the next begins, a word can come twice
                cue = adjectives.deal()
            cues[slot] = cue
        if "v" in slots:
            cues["v"] = verbs.deal()
        return cues

    def _fill(self, frame: str, aspect: str, kind: words.Kind, cues: dict[str, str]) -> str:
        first_part, second_part = self._rng.sample(kind.parts, 2)
        text = frame.format(
            X=aspect,
            t1=first_part,
            t2=second_part,
            prep=kind.preposition,
            time=self._rng.choice(words.TIMES),
            day=self._rng.choice(words.DAYS),
            weekday=self._rng.choice(words.WEEKDAYS),
            hour=self._rng.choice(words.HOURS),
            person=self._rng.choice(words.PERSONS),
            n=self._rng.choice(words.NUMBERS),
            **cues,
        )
        return re.sub(r"\b([Aa])(?= [aeiou])", r"\1n", text)
