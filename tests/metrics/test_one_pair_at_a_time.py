"""Scores of many pairs are those of one pair at a time through the same libraries."""

import pytest
from nltk.tokenize import TreebankWordTokenizer
from nltk.translate.meteor_score import single_meteor_score
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from mulcot_rd.metrics import embeddings, reasoning_scores_by_pair
from mulcot_rd.metrics.wordnet import wordnet

GENERATED = [
    "The text praises Maple Lake. The image shows a happy family. There is no conflict. The feeling is positive.",
    "A queue is shown, and people are waiting angrily.",
    "The text praises Maple Lake. The image shows a happy family. There is no conflict. The feeling is positive.",
    "Sentiment is neutral " * 40,
    "joyful automobiles walked quickly",
]
REFERENCES = [
    "The post likes Maple Lake, and the picture of a glad family agrees. The feeling is positive.",
    "People wait in a long line; the text calls it a waste of time.",
    "A queue is shown, and people are waiting angrily.",
    "The text states a fact, so the sentiment is neutral.",
    "happy cars walk fast",
]


@pytest.mark.parametrize("times", [1, 2])
def test_scores_are_those_of_one_pair_at_a_time(times):
    embeddings.forget()
    for _ in range(times):
        scores = reasoning_scores_by_pair(GENERATED, REFERENCES)
    for index, (generated, reference) in enumerate(zip(GENERATED, REFERENCES, strict=True)):
        one, other = embeddings.sentence_encoder().encode([generated, reference], normalize_embeddings=True)
        tokens, wanted = (TreebankWordTokenizer().tokenize(text.lower()) for text in (generated, reference))
        plain = {
            "sim": float(one @ other),
            "meteor": single_meteor_score(wanted, tokens, wordnet=wordnet()),
            "bleu": BLEU(smooth_method="none").corpus_score([generated], [[reference]]).score / 100,
            "rouge_l": RougeScorer(["rougeL"]).score(reference, generated)["rougeL"].fmeasure,
        }
        assert {name: scores[name][index] for name in plain} == pytest.approx(plain, abs=1e-6)
