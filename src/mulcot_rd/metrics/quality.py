"""Quality of reasonings beyond overlap with a reference (the paper's Limitations ask for it).

Four questions that a text can answer by itself: does its conclusion lead to the label it predicts, does it speak of
the aspect it was asked about, does it quote what the post really says, and does it repeat itself. They are rules:
each says what it counts, and none of them says that a reasoning convinces anybody.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mulcot_rd.metrics.statistics import bootstrap_mean_interval
from mulcot_rd.schema import Post, Reasoning, Sentiment

_WORD = re.compile(r"[\w@#']+")
_QUOTE = re.compile(r"(?<!\w)'([^']{1,60})'(?!\w)|\"([^\"]{1,60})\"|“([^”]{1,60})”|‘([^’]{1,60})’")
_LABELS = {label.value for label in Sentiment}
_NEGATORS = {"not", "no", "never", "neither", "nor", "without", "than", "hardly", "cannot", "instead"}
# What ends a negator's reach: "not negative but positive".
_TURNS = _LABELS | {"but"}
# A negator this many words before a label takes it back: "not a positive", "rather than negative".
_REACH = 3
_NGRAM = 4


def quality_scores(
    reasonings: Sequence[Reasoning], texts: Sequence[str], posts: Sequence[Post], *, seed: int
) -> dict[str, Any]:
    """Shares of reasonings with each quality, fractions, and under ``intervals`` the 95 percent interval of each.

    Args:
        reasonings: What a model wrote, read by the response format.
        texts: The same answers as written.
        posts: The posts they are about, in the same order.
        seed: Of the bootstrap.

    Returns:
        ``reasonings`` (how many there are), ``complete`` (all four sections and a label are there),
        ``conclusion_entails`` (the conclusion comes to the predicted label), ``conclusion_contradicts`` (it comes to
        another one; the rest names none), ``aspect_named`` (``None`` in coarse-grained sets), ``quotes_grounded``
        (quoted words that the post has, among all quotes of all answers; ``None`` without quotes),
        ``repeated_sentence`` (answers with a sentence twice), ``repetition_4`` (share of 4-grams within an answer that
        occurred in it before, averaged), ``quotes`` (how many there are). ``None`` and empty intervals where there is
        nothing to count.
    """
    conclusions = [conclusion_label(reasoning) for reasoning in reasonings]
    pairs = list(zip(conclusions, (reasoning.prediction for reasoning in reasonings), strict=True))
    grounded = [there for r, post in zip(reasonings, posts, strict=True) for there in quotes_in_post(r, post)]
    values: dict[str, list[float]] = {
        "complete": [float(not reasoning.problems) for reasoning in reasonings],
        "conclusion_entails": [float(said is not None and said == predicted) for said, predicted in pairs],
        "conclusion_contradicts": [float(said is not None and said != predicted) for said, predicted in pairs],
        "aspect_named": [
            float(names_aspect(reasoning, post.aspect))
            for reasoning, post in zip(reasonings, posts, strict=True)
            if post.aspect is not None
        ],
        "quotes_grounded": [float(there) for there in grounded],
        "repeated_sentence": [float(repeats_sentence(reasoning)) for reasoning in reasonings],
        "repetition_4": [repetition(text) for text in texts],
    }
    return {
        "reasonings": len(reasonings),
        **{name: float(np.mean(each)) if each else None for name, each in values.items()},
        "quotes": len(grounded),
        "intervals": {name: list(bootstrap_mean_interval(each, seed)) for name, each in values.items() if each},
    }


def judge_scores(
    verdicts: Sequence[Sentiment | str | None], predicted: Sequence[Sentiment | None], *, seed: int
) -> dict[str, Any]:
    """Share of conclusions that a judge reads as the predicted label, over those that it judged.

    Args:
        verdicts: The judge's label or "unclear" for each conclusion; ``None`` where it gave no usable answer.
        predicted: The label predicted with each.
        seed: Of the bootstrap.

    Returns:
        ``judged``, ``judged_entails`` (a fraction, ``None`` where nothing was judged) and ``judged_entails_interval``.
    """
    pairs = [(said, label) for said, label in zip(verdicts, predicted, strict=True) if said is not None]
    shared = [float(said == label) for said, label in pairs]
    return {
        "judged": len(pairs),
        "judged_entails": float(np.mean(shared)) if shared else None,
        "judged_entails_interval": list(bootstrap_mean_interval(shared, seed)) if shared else None,
    }


class Quote(NamedTuple):
    """Quoted words in a Text_analysis: where they begin and end there, and whether post or aspect has them."""

    start: int
    end: int
    in_post: bool


def faithful(reasoning: Reasoning, post: Post) -> bool:
    """Whether it names its aspect, quotes nothing that the post does not say, and concludes no label but its own."""
    return (
        (post.aspect is None or names_aspect(reasoning, post.aspect))
        and all(quotes_in_post(reasoning, post))
        and conclusion_label(reasoning) in (reasoning.prediction, None)
    )


def conclusion_label(reasoning: Reasoning) -> Sentiment | None:
    """The label that the Final_conclusion comes to, or ``None``."""
    return named_label(reasoning.final_conclusion)


def modality_conflict(reasoning: Reasoning) -> bool:
    """Whether Text_analysis and Image_analysis come to positive and negative, or the other way round."""
    labels = {named_label(reasoning.text_analysis), named_label(reasoning.image_analysis)}
    return labels == {Sentiment.POSITIVE, Sentiment.NEGATIVE}


def named_label(section: str) -> Sentiment | None:
    """The label that a section comes to: the last one it names and does not take back, or ``None``.

    ``neither positive nor negative`` comes to neutral.
    """
    # What is quoted is a word, too: 'positive'.
    words = [word.strip("'") for word in _WORD.findall(_even(section))]
    said: Sentiment | None = None
    turn = 0
    for place, word in enumerate(words):
        if word in _LABELS and not any(map(_negates, words[max(turn, place - _REACH) : place])):
            said = Sentiment(word)
        if word in _TURNS:
            turn = place
    if said is None and re.search(r"\bneither positive nor negative\b", " ".join(words)):
        return Sentiment.NEUTRAL
    return said


def names_aspect(reasoning: Reasoning, aspect: str) -> bool:
    """Whether any section names the aspect, letter case and white space aside."""
    wanted = _even(aspect)
    return any(wanted in _even(section) for section in reasoning.sections.values())


def quotes(reasoning: Reasoning, post: Post) -> list[Quote]:
    """Every quotation in the Text_analysis."""
    said = _even(f"{post.text} {post.aspect or ''}")
    found = []
    for match in _QUOTE.finditer(reasoning.text_analysis):
        words = _even(next(group for group in match.groups() if group)).strip(".,!?;:\u2026 ")
        # A quotation of nothing but marks quotes nothing.
        if words:
            found.append(Quote(*match.span(), words in said))
    return found


def quotes_in_post(reasoning: Reasoning, post: Post) -> list[bool]:
    """For every quotation in the Text_analysis, whether the post (or its aspect) has it."""
    return [quote.in_post for quote in quotes(reasoning, post)]


def repeats_sentence(reasoning: Reasoning) -> bool:
    """Whether a sentence of three words or more occurs twice in the four sections."""
    sentences = [
        _even(sentence)
        for section in reasoning.sections.values()
        for sentence in re.split(r"(?<=[.!?])\s+", section)
        if len(_WORD.findall(sentence)) >= 3
    ]
    return len(set(sentences)) < len(sentences)


def repetition(text: str) -> float:
    """Share of a text's 4-grams of words that occurred in it before (seq-rep-4; Welleck et al., 2020), 0 to 1."""
    words = [word.lower() for word in _WORD.findall(text)]
    ngrams = [tuple(words[start : start + _NGRAM]) for start in range(len(words) - _NGRAM + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def _negates(word: str) -> bool:
    return word in _NEGATORS or word.endswith("n't")


def _even(text: str) -> str:
    """Text of one case, one white space and one apostrophe."""
    return " ".join(text.lower().replace("\u2019", "'").split())
