"""Reasoning metrics: pairs a second, against one pair at a time through the same libraries.

The texts are the offline teacher's reasonings of the shipped sample, cut and joined to the length of real ones: 300
pairs, all texts different. More take longer and give the same ratio.
"""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from nltk.tokenize import TreebankWordTokenizer
from nltk.translate.meteor_score import single_meteor_score
from nltk.util import ngrams
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from mulcot_rd.metrics import embeddings, reasoning_scores
from mulcot_rd.metrics.wordnet import wordnet
from mulcot_rd.reasoning import write
from settings import Setting
from timing import alternate, row

PAIRS = 300
WORDS = (90, 150)


def rows(scratch: Path, repetitions: int, pairs: int = PAIRS) -> list[dict]:
    """Speed of all six metrics together."""
    generated, references = _texts(scratch, pairs)

    def ours() -> dict[str, float]:
        embeddings.forget()
        return reasoning_scores(generated, references)

    def one_at_a_time() -> dict[str, float]:
        scores = [_plain(one, other) for one, other in zip(generated, references, strict=True)]
        return {name: float(np.mean([score[name] for score in scores])) for name in scores[0]}

    mine, plain = ours(), one_at_a_time()
    for name, value in plain.items():
        if abs(mine[name] - value) > 1e-5:
            raise ValueError(f"{name} is {mine[name]}, one pair at a time {value}: the speeds can't be compared")
    fast, slow = alternate([ours, one_at_a_time], repetitions)
    name = "one pair at a time through the same libraries"
    return [row("reasoning_metrics_pairs_per_s", "tiny", pairs / fast, pairs / slow, name, "pairs/s", repetitions)]


def _texts(scratch: Path, pairs: int) -> tuple[list[str], list[str]]:
    setting = Setting("tiny", scratch / "tiny")
    words = " ".join(write(record.reasoning) for record in setting.teacher).split()
    draw = random.Random(0)

    def text() -> str:
        start = draw.randrange(len(words) - WORDS[1])
        return " ".join(words[start : start + draw.randint(*WORDS)])

    return [text() for _ in range(pairs)], [text() for _ in range(pairs)]


def _plain(generated: str, reference: str) -> dict[str, float]:
    one, other = embeddings.sentence_encoder().encode([generated, reference], normalize_embeddings=True)
    tokens, wanted = (TreebankWordTokenizer().tokenize(text.lower()) for text in (generated, reference))
    return {
        "sim": float(one @ other),
        "meteor": single_meteor_score(wanted, tokens, wordnet=wordnet()),
        "bleu": BLEU(smooth_method="none").corpus_score([generated], [[reference]]).score / 100,
        "rouge_l": RougeScorer(["rougeL"]).score(reference, generated)["rougeL"].fmeasure,
        "dist_1": _distinct(tokens, 1),
        "dist_2": _distinct(tokens, 2),
    }


def _distinct(tokens: Sequence[str], order: int) -> float:
    found = list(ngrams(tokens, order))
    return len(set(found)) / len(found)
