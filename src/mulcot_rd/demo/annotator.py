"""The rule-based annotator: reads evidence in text and image, weighs it, and writes the four sections.

It needs no server and no weights, answers the same post always the same way, and is honestly wrong where
its rules are. The rules of stage one:

1. Text and image lean the same way: that way.
2. One of them is neutral: the other decides.
3. They oppose each other: a marker of irony in the text lets the image decide, otherwise the text does.

In stage two it looks for the evidence that supports the told label and explains away the rest.
"""

import hashlib
from dataclasses import dataclass

from mulcot_rd.demo.image_evidence import ImageFacts, measure_image
from mulcot_rd.demo.phrases import CONCLUSION, CONFLICT, DECIDED_BY, IMAGE, MOODS, TEXT, TextView, Weighing
from mulcot_rd.demo.text_evidence import TextEvidence, read_text
from mulcot_rd.schema import Post, Reasoning, Sentiment

MAX_CITED = 2


@dataclass(frozen=True)
class Findings:
    """What a reasoning is written from: evidence, where the text is taken to lean, verdict and the way to it."""

    text: TextEvidence
    image: ImageFacts
    text_lean: Sentiment
    label: Sentiment
    weighing: Weighing


def explain_post(post: Post, told_label: Sentiment | None = None) -> Reasoning:
    """The annotator's reasoning about a post: its own verdict, or the way to the label it was told."""
    text, image = read_text(post), measure_image(post.image)
    if told_label is None:
        label, weighing = decide(text, image)
        text_lean = text.lean
    else:
        label = told_label
        text_lean = _supporting_lean(text, told_label)
        weighing = justify(told_label, text_lean, image.lean, text.irony is not None)
    findings = Findings(text, image, text_lean, label, weighing)
    return _write(post, 1 if told_label is None else 2, findings)


def decide(text: TextEvidence, image: ImageFacts) -> tuple[Sentiment, Weighing]:
    """The verdict of stage one and how it came about."""
    if text.lean is image.lean:
        return text.lean, Weighing.BOTH_NEUTRAL if text.lean is Sentiment.NEUTRAL else Weighing.AGREE
    if image.lean is Sentiment.NEUTRAL:
        return text.lean, Weighing.TEXT_ALONE
    if text.lean is Sentiment.NEUTRAL:
        return image.lean, Weighing.IMAGE_ALONE
    if text.irony is not None:
        return image.lean, Weighing.IRONY
    return text.lean, Weighing.TEXT_WINS


def justify(label: Sentiment, text_lean: Sentiment, image_lean: Sentiment, ironic: bool) -> Weighing:
    """How text and image have to be weighed for the evidence to lead to ``label``."""
    if label is Sentiment.NEUTRAL:
        neutral = text_lean is image_lean is Sentiment.NEUTRAL
        return Weighing.BOTH_NEUTRAL if neutral else Weighing.FACTS_WIN
    if text_lean is image_lean is label:
        return Weighing.AGREE
    if text_lean is label:
        return Weighing.TEXT_ALONE if image_lean is Sentiment.NEUTRAL else Weighing.TEXT_WINS
    if image_lean is label:
        if text_lean is Sentiment.NEUTRAL:
            return Weighing.IMAGE_ALONE
        return Weighing.IRONY if ironic else Weighing.IMAGE_WINS
    return Weighing.IMPLIED


def _supporting_lean(text: TextEvidence, label: Sentiment) -> Sentiment:
    """Where the text leans for one who looks for ``label``: there, if any of its words do."""
    if label is not Sentiment.NEUTRAL and text.words_for(label):
        return label
    return text.lean


def _write(post: Post, stage: int, found: Findings) -> Reasoning:
    text, label = found.text, found.label
    words = text.words_for(found.text_lean)[:MAX_CITED]
    lean = found.text_lean
    if lean is Sentiment.NEUTRAL:
        view = TextView.WEAK if words else TextView.PLAIN
    else:
        # An emoticon or emoji alone moves the score without a word to cite.
        view = TextView.LEANS if words else TextView.UNSPOKEN
    cited = " and ".join(f"'{word}'" for word in words)
    text_fields = {"words": cited, "lean": lean.value, "mood": MOODS[lean.value]}
    target = {
        "toward": f" toward {post.aspect}" if post.aspect is not None else "",
        "about": f" about {post.aspect}" if post.aspect is not None else "",
    }
    verdict = {"label": label.value, "mood": MOODS[label.value], "irony": text.irony or "", **target}

    def phrase(section: str, choices: tuple[str, ...]) -> str:
        digest = hashlib.sha256(f"{post.id}|{stage}|{section}".encode()).digest()
        return choices[int.from_bytes(digest[:4], "big") % len(choices)]

    return Reasoning(
        text_analysis=phrase("text", TEXT[view]).format(**text_fields, **target),
        image_analysis=phrase("image", IMAGE[found.image.lean.value]).format(look=found.image.look),
        conflict_resolution=phrase("conflict", CONFLICT[found.weighing]).format(**verdict),
        final_conclusion=phrase("conclusion", CONCLUSION[DECIDED_BY[found.weighing]]).format(**verdict),
        prediction=label,
    )
