"""Training rows as tensors: each row holds its opening once and a branch for each task behind it.

A branch sees the opening and itself, never the other branch, and its positions go on from the opening's end. The
model's outputs on a branch are those of a separate pass over opening and branch, at the cost of one opening.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mulcot_rd.models.branches import branch_rows
from mulcot_rd.models.forward import Rows
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.prompts import Task
from mulcot_rd.reasoning import write, write_label
from mulcot_rd.schema import Post, TrainingRow


@dataclass(frozen=True)
class Example:
    """One training row, tokenised; ids lie in arrays, since a list of Python integers takes nine times the memory.

    Attributes:
        post_id: The post it comes from.
        image: Path of its image.
        opening: Token ids that all tasks share.
        endings: Task to the token ids between the opening and the answer.
        targets: Task to the token ids of the answer, the end of the turn included.
    """

    post_id: str
    image: str
    opening: array
    endings: dict[Task, array]
    targets: dict[Task, array]

    @property
    def length(self) -> int:
        """Tokens of the row with all its branches."""
        return len(self.opening) + sum(len(self.endings[t]) + len(self.targets[t]) for t in self.targets)


@dataclass(frozen=True)
class Batch(Rows):
    """A micro-batch: rows of branches and where their targets are.

    Attributes:
        predictors: Task to (row, position) of the N states whose next token is a target.
        targets: Task to the N target ids.
    """

    predictors: dict[Task, tuple[Tensor, Tensor]]
    targets: dict[Task, Tensor]


def make_example(row: TrainingRow, post: Post, encoder: InputEncoder, tasks: Sequence[Task]) -> Example:
    """Tokenise a training row: the reasoning it carries and the post's gold label are the targets."""
    texts: dict[Task, str] = {"label": write_label(post.label), "reasoning": write(row.reasoning)}
    prompts = {task: encoder.prompt(post, task) for task in tasks}
    return Example(
        post_id=post.id,
        image=post.image,
        opening=_ids(next(iter(prompts.values())).opening),
        endings={task: _ids(prompt.ending) for task, prompt in prompts.items()},
        targets={task: _ids(encoder.target(texts[task], task)) for task in tasks},
    )


def _ids(ids: Sequence[int]) -> array:
    return array("i", ids)


def collate(examples: Sequence[Example], encoder: InputEncoder) -> Batch:
    """Pad examples into a batch; nothing is ever cut, so image tokens can't be lost."""
    tasks = list(examples[0].targets)
    rows, begins = branch_rows(
        [example.opening for example in examples],
        [[example.endings[task] + example.targets[task] for task in tasks] for example in examples],
        [example.image for example in examples],
        encoder,
    )
    places: dict[Task, tuple[list[int], list[int]]] = {task: ([], []) for task in tasks}
    targets: dict[Task, list[int]] = {task: [] for task in tasks}
    for index, (example, starts) in enumerate(zip(examples, begins, strict=True)):
        for task, start in zip(tasks, starts, strict=True):
            first, count = start + len(example.endings[task]) - 1, len(example.targets[task])
            places[task][0].extend([index] * count)
            places[task][1].extend(range(first, first + count))
            targets[task].extend(example.targets[task])
    return Batch(
        **vars(rows),
        predictors={task: (torch.tensor(r), torch.tensor(p)) for task, (r, p) in places.items()},
        targets={task: torch.tensor(ids) for task, ids in targets.items()},
    )


def windows(examples: Sequence[Example], rows: int, seed: int, epoch: int) -> list[list[int]]:
    """The epoch's accumulation windows as indices of examples: a permutation drawn from seed and epoch.

    Within a window the rows are ordered by length, so that micro-batches cut from it need little padding.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(examples), generator=generator).tolist()
    return [
        sorted(order[start : start + rows], key=lambda index: (examples[index].length, index))
        for start in range(0, len(order), rows)
    ]


def micro_batches(window: Sequence[int], rows: int) -> Iterator[Sequence[int]]:
    """A window cut into micro-batches of at most ``rows`` rows, the longest first."""
    for end in range(len(window), 0, -rows):
        yield window[max(0, end - rows) : end]
