"""Pairs of reasonings about one post: the chosen one is better by what can be checked, not by its length."""

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from statistics import fmean, median
from typing import Any, get_args

from mulcot_rd.preference.parameters import PairParameters
from mulcot_rd.reasoning import write
from mulcot_rd.schema import PreferencePair, Reasoning

KINDS: tuple[str, ...] = get_args(PreferencePair.model_fields["kind"].annotation)
# What a chosen reasoning can't do without, whatever its margin.
_NEEDED = ("label_right", "no_leak")


@dataclass(frozen=True)
class Candidate:
    """A complete reasoning about a training post, and what was found of it.

    Attributes:
        post_id: The post.
        reasoning: With all its sections and a label.
        checks: Of :func:`mulcot_rd.preference.scoring.checks`.
    """

    post_id: str
    reasoning: Reasoning
    checks: Mapping[str, float]

    @cached_property
    def words(self) -> int:
        """Its length as it would be trained on."""
        return len(write(self.reasoning).split())

    def better_than(self, other: "Candidate") -> float:
        """How many checks more it passes, of those that both were put to."""
        return sum(self.checks[name] - other.checks[name] for name in sorted(self.checks.keys() & other.checks.keys()))


def make_pairs(
    student: Sequence[Candidate],
    assistant: Sequence[Candidate],
    teacher: Sequence[tuple[Candidate, Candidate]],
    usual_words: Sequence[int],
    parameters: PairParameters,
    seed: int,
) -> list[PreferencePair]:
    """Pairs of each kind, in the order of kinds and posts.

    A reasoning that is unusually short or long takes no part. The chosen one comes to the gold label, leaks nothing and
    is better by the margin; length is no part of that, and of equal margins the pair of more equal lengths is taken.

    Args:
        student: The student's samples.
        assistant: The assistant's reasonings that came to a wrong label; the chosen one is the student's.
        teacher: Of each post that the teacher got wrong its stage two and its stage one.
        usual_words: Words of the teacher's reasonings.
        parameters: Margin, bounds, pairs a post.
        seed: Of the control's order.
    """
    typical = median(usual_words)
    shortest, longest = parameters.shortest * typical, parameters.longest * typical

    def usual(candidates: Iterable[Candidate]) -> dict[str, list[Candidate]]:
        by_post: dict[str, list[Candidate]] = defaultdict(list)
        for candidate in candidates:
            if shortest <= candidate.words <= longest:
                by_post[candidate.post_id].append(candidate)
        return by_post

    own, of_assistant = usual(student), usual(assistant)
    second, first = (usual(stage) for stage in zip(*teacher, strict=True)) if teacher else ({}, {})
    sources = {"sampled": (own, own), "assistant": (own, of_assistant), "teacher": (second, first)}
    pairs = [
        pair
        for kind, (chosen, rejected) in sources.items()
        for post_id in chosen
        for pair in _of_post(kind, chosen[post_id], rejected.get(post_id, ()), parameters)
    ]
    return _shuffled(pairs, seed) if parameters.shuffled else pairs


def _of_post(
    kind: str, chosen: Sequence[Candidate], rejected: Sequence[Candidate], parameters: PairParameters
) -> list[PreferencePair]:
    """The pairs of one post with the widest margins, no rejected text twice."""
    able = [candidate for candidate in chosen if all(candidate.checks[name] == 1 for name in _NEEDED)]
    compared = [(one.better_than(other), one, other) for one, other in product(able, rejected)]
    wide = [each for each in compared if each[0] >= parameters.margin]
    # Sorting is stable: equal ones keep the order in which they were written.
    wide.sort(key=lambda each: (-each[0], abs(each[1].words - each[2].words)))
    taken: dict[Reasoning, PreferencePair] = {}
    for margin, one, other in wide:
        if len(taken) < parameters.pairs_per_post and other.reasoning not in taken:
            taken[other.reasoning] = PreferencePair(
                post_id=one.post_id,
                kind=kind,
                chosen=one.reasoning,
                rejected=other.reasoning,
                chosen_checks=dict(one.checks),
                rejected_checks=dict(other.checks),
                margin=margin,
            )
    return list(taken.values())


def _shuffled(pairs: Sequence[PreferencePair], seed: int) -> list[PreferencePair]:
    """The pairs, of which a coin tells whether they are turned round."""
    coin = random.Random(seed)
    return [_turned(pair) if coin.random() < 0.5 else pair for pair in pairs]


def _turned(pair: PreferencePair) -> PreferencePair:
    return pair.model_copy(
        update={
            "chosen": pair.rejected,
            "rejected": pair.chosen,
            "chosen_checks": pair.rejected_checks,
            "rejected_checks": pair.chosen_checks,
            "margin": -pair.margin,
        }
    )


def pair_statistics(pairs: Sequence[PreferencePair]) -> dict[str, dict[str, Any]]:
    """Of each kind how many pairs and posts there are, and what tells chosen from rejected.

    Returns:
        Kind to ``pairs``, ``posts``, ``margin`` (mean), ``chosen_words`` and ``rejected_words`` (means), and by check
        the share of pairs in which the chosen one is better, of those that both were put to (``better``). A kind
        without pairs has zeros alone.
    """
    return {kind: _of_kind([pair for pair in pairs if pair.kind == kind]) for kind in KINDS}


def _of_kind(pairs: Sequence[PreferencePair]) -> dict[str, Any]:
    counts: dict[str, Any] = {"pairs": len(pairs), "posts": len({pair.post_id for pair in pairs})}
    if not pairs:
        return counts
    better: dict[str, list[bool]] = defaultdict(list)
    for pair in pairs:
        for name in sorted(pair.chosen_checks.keys() & pair.rejected_checks.keys()):
            better[name].append(pair.chosen_checks[name] > pair.rejected_checks[name])
    return counts | {
        "margin": fmean(pair.margin for pair in pairs),
        "chosen_words": fmean(len(write(pair.chosen).split()) for pair in pairs),
        "rejected_words": fmean(len(write(pair.rejected).split()) for pair in pairs),
        "better": {name: fmean(wins) for name, wins in better.items()},
    }
