"""Training rows that several tests need."""

from collections.abc import Sequence
from dataclasses import replace

from mulcot_rd.training.batches import Example


def with_other_reasonings(examples: Sequence[Example]) -> list[Example]:
    """The examples, and behind them rows of the same posts with one another's reasonings."""
    others = [*examples[1:], examples[0]]
    more = [
        replace(example, targets={**example.targets, "reasoning": other.targets["reasoning"]})
        for example, other in zip(examples, others, strict=True)
    ]
    return [*examples, *more]
