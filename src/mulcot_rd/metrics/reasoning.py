"""Metrics of generated reasoning against reference reasoning (paper, Section 4.1.4 and Table 5).

All of them are computed pair by pair and averaged. The authors' Dist-1/2 are those of the *reference* texts, which
is why Table 5 prints the same numbers for different models; here ``dist_1`` and ``dist_2`` are those of the generated
texts, and :func:`distinct` gives the references' beside them.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from types import SimpleNamespace

import numpy as np

from mulcot_rd.extras import extra
from mulcot_rd.metrics.embeddings import cosine_similarities
from mulcot_rd.progress import progress

with extra("report"):
    from nltk.stem.porter import PorterStemmer
    from nltk.tokenize import TreebankWordTokenizer
    from nltk.translate.meteor_score import single_meteor_score
    from nltk.util import ngrams
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU

    from mulcot_rd.metrics.wordnet import wordnet

_TREEBANK = TreebankWordTokenizer()
_KEPT = 2**17
_BLEU = BLEU(tokenize="13a", max_ngram_order=4, smooth_method="none", effective_order=False)
_ROUGE = RougeScorer(["rougeL"], use_stemmer=False)


def reasoning_scores(
    generated: Sequence[str], references: Sequence[str], show_progress: bool = False
) -> dict[str, float]:
    """Score generated reasonings against their references: the six columns of Table 5.

    Args:
        generated: The generated texts; an empty one scores 0 in every metric.
        references: The reference text of each, in the same order.
        show_progress: Whether to show progress bars.

    Returns:
        Means over the pairs, as fractions: ``sim``, ``meteor``, ``bleu``, ``rouge_l`` and, of the generated texts
        alone, ``dist_1``, ``dist_2``. See :func:`reasoning_scores_by_pair` for the definitions.

    Raises:
        ValueError: If there are no pairs, the lengths differ, or a reference is empty.
    """
    by_pair = reasoning_scores_by_pair(generated, references, show_progress)
    return {name: float(np.mean(values)) for name, values in by_pair.items()}


def reasoning_scores_by_pair(
    generated: Sequence[str], references: Sequence[str], show_progress: bool = False
) -> dict[str, list[float]]:
    """The values that :func:`reasoning_scores` averages, one a pair and metric, in the order of the pairs.

    - ``sim``: cosine of all-MiniLM-L6-v2 embeddings.
    - ``meteor``: NLTK's METEOR on lower-cased Treebank tokens, with Porter stems and WordNet 3.0 synonyms.
    - ``bleu``: sacrebleu, 13a tokens, order 4, no smoothing: 0 where no 4-gram is shared.
    - ``rouge_l``: F1 of the longest common subsequence (rouge-score, no stemming).
    - ``dist_1``, ``dist_2``: distinct n-grams over n-grams of the generated text (lower-cased Treebank tokens).

    Args:
        generated: The generated texts; an empty one scores 0 in every metric.
        references: The reference text of each, in the same order.
        show_progress: Whether to show progress bars.

    Raises:
        ValueError: If there are no pairs, the lengths differ, or a reference is empty.
    """
    _check(generated, references)
    written = [index for index, text in enumerate(generated) if text.strip()]
    pairs = [(generated[index], references[index]) for index in written]
    columns = {name: np.zeros(len(generated)) for name in ("sim", "meteor", "bleu", "rouge_l", "dist_1", "dist_2")}
    if pairs:
        texts, compared = zip(*pairs, strict=True)
        columns["sim"][written] = cosine_similarities(texts, compared, show_progress=show_progress)
        overlaps = [
            _overlap(*pair)
            for pair in progress(pairs, desc="METEOR, BLEU, ROUGE-L", unit="pair", disable=not show_progress)
        ]
        for name in ("meteor", "bleu", "rouge_l"):
            columns[name][written] = [overlap[name] for overlap in overlaps]
        for name, order in (("dist_1", 1), ("dist_2", 2)):
            columns[name][written] = [_distinct_share(_tokens(text), order) for text, _ in pairs]
    return {name: values.tolist() for name, values in columns.items()}


def distinct(texts: Sequence[str]) -> dict[str, float]:
    """Dist-1/2 of any texts (Li et al., 2015): distinct n-grams over n-grams within one text, averaged.

    Given the references, these are the numbers that Table 5 prints.

    Returns:
        Fractions ``dist_1`` and ``dist_2``; a text with no n-gram counts 0.

    Raises:
        ValueError: If there are no texts.
    """
    if len(texts) == 0:
        raise ValueError("there are no texts to measure Dist-1/2 of: give at least one")
    tokens = [_tokens(text) for text in texts]
    return {f"dist_{order}": float(np.mean([_distinct_share(each, order) for each in tokens])) for order in (1, 2)}


def _overlap(generated: str, reference: str) -> dict[str, float]:
    """METEOR, BLEU and ROUGE-L of one pair, the generated text not empty."""
    return {
        "meteor": float(
            single_meteor_score(_tokens(reference), _tokens(generated), stemmer=_STEMS, wordnet=_synonyms())
        ),
        # A corpus of one pair: sentence_score without its advice to use another metric. Rounding may pass 1.
        "bleu": min(1.0, _BLEU.corpus_score([generated], [[reference]]).score / 100),
        "rouge_l": float(_ROUGE.score(reference, generated)["rougeL"].fmeasure),
    }


# Each word is stemmed once and looked up once: texts of one kind share most of their words.
_STEMS = SimpleNamespace(stem=lru_cache(_KEPT)(PorterStemmer().stem))


@cache
def _synonyms() -> SimpleNamespace:
    """WordNet as METEOR asks it."""
    return SimpleNamespace(synsets=lru_cache(_KEPT)(wordnet().synsets))


@lru_cache(maxsize=4096)
def _tokens(text: str) -> tuple[str, ...]:
    """Lower-cased Treebank tokens; METEOR and Dist ask for the same texts."""
    return tuple(_TREEBANK.tokenize(text.lower()))


def _distinct_share(tokens: Sequence[str], order: int) -> float:
    found = list(ngrams(tokens, order))
    return len(set(found)) / len(found) if found else 0.0


def _check(generated: Sequence[str], references: Sequence[str]) -> None:
    if len(generated) != len(references):
        raise ValueError(f"{len(generated)} generated texts can't be compared with {len(references)} references")
    if len(generated) == 0:
        raise ValueError("there are no generated texts to score: give at least one")
    empty = [index for index, text in enumerate(references) if not text.strip()]
    if empty:
        raise ValueError(f"reference {empty[0]} is empty: leave out posts that have no reference reasoning")
