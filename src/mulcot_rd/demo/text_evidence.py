"""What the offline annotator reads in a text: its leaning by VADER, and the words behind that.

VADER is the rule-based sentiment lexicon of Hutto and Gilbert (ICWSM 2014), taken from ``vaderSentiment``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from mulcot_rd.schema import Post, Sentiment

# VADER's own cut is 0.05; headlines and names in tweets score a little either way without any feeling in them.
LEANING_COMPOUND = 0.4
# Words whose part in the score is measured, the first so many: each takes a scoring of the whole text.
MOST_WORDS_MEASURED = 20

_IRONY = re.compile(
    r"\b(?:just what (?:i|we) needed|just (?:great|perfect|wonderful|lovely|fantastic)|yeah,? right|as if|thanks a lot"
    r"|of course|killing me|way to go|big surprise|what a surprise|so much for|how (?:lovely|nice|wonderful)"
    r"|lucky me|good job|sure,? because|lol|lmao|haha(?:ha)*)\b",
    re.IGNORECASE,
)
_SPLIT_CONTRACTION = re.compile(r"(?<=\w) ' (?=(?:t|s|m|d|re|ve|ll)\b)", re.IGNORECASE)
_SPLIT_SMILE = re.compile(r"(?<=[:;]) (?=\)(?:\s|$))")
_NEGATION = r"(?:not|never|no|nothing|without|hardly|cannot|\w+n'?t|\w+n ' t)"


@dataclass(frozen=True)
class TextEvidence:
    """The evidence in one text.

    Attributes:
        compound: VADER's normalised score of the whole text, -1 to 1.
        positive: Words and phrases that push it up, strongest first, as they stand in the text.
        negative: Those that push it down.
        irony: The first marker of irony, as it stands in the text, or ``None``.
    """

    compound: float
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    irony: str | None

    @property
    def lean(self) -> Sentiment:
        """Where the text leans by ``LEANING_COMPOUND``."""
        if self.compound >= LEANING_COMPOUND:
            return Sentiment.POSITIVE
        if self.compound <= -LEANING_COMPOUND:
            return Sentiment.NEGATIVE
        return Sentiment.NEUTRAL

    def words_for(self, label: Sentiment) -> tuple[str, ...]:
        """The words that speak for a label; for neutral those of both sides."""
        if label is Sentiment.POSITIVE:
            return self.positive
        if label is Sentiment.NEGATIVE:
            return self.negative
        return (*self.positive[:1], *self.negative[:1])


class _Vader(SentimentIntensityAnalyzer):
    """VADER in linear time.

    At every word with a score, VADER lower-cases all words of the text to look at no more than three before that word
    and two behind it. Here it gets these alone, which changes no score.
    """

    @staticmethod
    def _negation_check(valence: float, words: Sequence[str], start_i: int, i: int) -> float:
        first = max(0, i - 3)
        return SentimentIntensityAnalyzer._negation_check(valence, words[first : i + 1], start_i, i - first)

    @staticmethod
    def _special_idioms_check(valence: float, words: Sequence[str], i: int) -> float:
        first = max(0, i - 3)
        return SentimentIntensityAnalyzer._special_idioms_check(valence, words[first : i + 3], i - first)


@cache
def _analyzer() -> SentimentIntensityAnalyzer:
    return _Vader()


def read_text(post: Post) -> TextEvidence:
    """Score a post's text and find the words behind the score.

    The aspect's own words do not count: "Happy Valley" in the name of a place is no feeling of the writer.
    A word's part is the score of the whole text less that of the text without it, so negation and
    intensifiers around it are in it.
    """
    text = post.text if post.aspect is None else post.text.replace(post.aspect, "it")
    text = _SPLIT_SMILE.sub("", _SPLIT_CONTRACTION.sub("'", text))
    analyzer = _analyzer()
    compound = analyzer.polarity_scores(text)["compound"]
    tokens = text.split()
    parts: dict[str, float] = {}
    words = ((index, _lexicon_word(token)) for index, token in enumerate(tokens))
    new = ((index, word) for index, word in words if word is not None and word not in parts)
    for index, word in islice(new, MOST_WORDS_MEASURED):
        without = " ".join([*tokens[:index], *tokens[index + 1 :]])
        part = compound - analyzer.polarity_scores(without)["compound"]
        cited = _as_written(word, post.text, negated=part * analyzer.lexicon[word.lower()] < 0)
        if cited is not None and part != 0:
            parts[cited] = part
    ranked = sorted(parts.items(), key=lambda item: -abs(item[1]))
    marker = _IRONY.search(post.text)
    return TextEvidence(
        compound=compound,
        positive=tuple(word for word, part in ranked if part > 0),
        negative=tuple(word for word, part in ranked if part < 0),
        irony=marker.group() if marker else None,
    )


def _lexicon_word(token: str) -> str | None:
    """The token without its punctuation where VADER's lexicon has it as a word."""
    match = re.search(r"\w(?:.*\w)?", token, re.DOTALL)
    word = match.group() if match else ""
    return word if len(word) > 2 and word.lower() in _analyzer().lexicon else None


def _as_written(word: str, text: str, *, negated: bool) -> str | None:
    """The word as it stands in the text, with the negation in front of it where that turned it round."""
    if negated:
        match = re.search(rf"\b{_NEGATION}\s+(?:\w+\s+)?{re.escape(word)}\b", text, re.IGNORECASE)
        if match:
            return match.group()
    return word if word in text else None
