"""Pairs as tensors: the post once, and behind it a branch for each of the two reasonings and one for the label."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.prompts import Task
from mulcot_rd.reasoning import write, write_label
from mulcot_rd.schema import Post, PreferencePair
from mulcot_rd.training.batches import Batch, Example, token_ids
from mulcot_rd.training.prefetch import Preparation

PAIRS = "pairs"


@dataclass(frozen=True)
class PairExample(Example):
    """A pair, tokenised: its branches are "chosen", "rejected" and, where the label task is learned, "label"."""

    @property
    def counts(self) -> dict[str, int]:
        """As :attr:`Example.counts`, with the pair itself."""
        return {**super().counts, PAIRS: 1}


@dataclass(frozen=True, kw_only=True)
class PairBatch(Batch):
    """A micro-batch of B pairs.

    Attributes:
        reference: Log-probabilities [B, 2] of the chosen and the rejected answers by the reference.
    """

    reference: Tensor


@dataclass(frozen=True)
class PairPreparation:
    """Makes micro-batches of pairs.

    Attributes:
        rows: Makes the rows.
        reference: Log-probabilities of all pairs [P, 2] by the reference.
    """

    rows: Preparation
    reference: Tensor

    def __call__(self, indices: Sequence[int]) -> PairBatch:
        """The micro-batch of these pairs."""
        return PairBatch(**vars(self.rows(indices)), reference=self.reference[list(indices)])


def make_pair_example(pair: PreferencePair, post: Post, encoder: InputEncoder, tasks: Sequence[Task]) -> PairExample:
    """Tokenise a pair for the tasks that are learned: both reasonings, and the post's gold label."""
    reasoning = encoder.prompt(post, "reasoning")
    suffix = token_ids(reasoning.suffix)
    # Branches by name, as those of tasks are elsewhere.
    suffixes: dict[Any, array] = {"chosen": suffix, "rejected": suffix}
    targets: dict[Any, array] = {
        "chosen": token_ids(encoder.target(write(pair.chosen), "reasoning")),
        "rejected": token_ids(encoder.target(write(pair.rejected), "reasoning")),
    }
    if "label" in tasks:
        suffixes["label"] = token_ids(encoder.prompt(post, "label").suffix)
        targets["label"] = token_ids(encoder.target(write_label(post.label), "label"))
    return PairExample(
        post_id=post.id, image=post.image, prefix=token_ids(reasoning.prefix), suffixes=suffixes, targets=targets
    )
