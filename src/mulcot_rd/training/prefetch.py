"""Preparing micro-batches while the model computes."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.training.batches import Batch, Example, collate
from mulcot_rd.training.images import ImageStore
from mulcot_rd.training.soft_labels import SoftLabels

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Preparation:
    """Makes micro-batches of training rows.

    Attributes:
        examples: The training rows.
        encoder: Makes the model's inputs.
        images: Where the images' inputs are kept; ``None`` makes them anew each time.
        soft_labels: The assistant's distributions at the rows' targets, which each batch then carries; or none.
        device: Where the model is.
    """

    examples: Sequence[Example]
    encoder: InputEncoder
    images: ImageStore | None
    soft_labels: SoftLabels | None
    device: torch.device

    def __call__(self, indices: Sequence[int]) -> Batch:
        """The micro-batch of these rows."""
        batch = collate([self.examples[index] for index in indices], self.encoder, self.images)
        if self.soft_labels is None:
            return batch
        return replace(batch, assistant=self.soft_labels.distributions(indices, self.examples, self.device))


def ahead(work: Callable[[Item], Result], items: Iterable[Item], depth: int = 2) -> Generator[Result, None, None]:
    """Results of ``work`` for each item, in order, made by one thread at most ``depth`` items before they are taken.

    What ``work`` raises is raised where its result would have been taken.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prepare") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
