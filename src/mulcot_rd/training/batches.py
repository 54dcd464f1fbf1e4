"""Training rows as tensors: a row's prefix once, and behind it a branch for each task.

A branch sees the prefix and itself, never another branch, and its positions go on from the prefix's end. The
model's outputs on a branch are those of a separate pass over prefix and branch, at the cost of one prefix.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mulcot_rd.errors import StaleInputError
from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.images import image_hashes
from mulcot_rd.models.branches import branch_rows
from mulcot_rd.models.forward import Rows
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.prompts import TASKS, Task
from mulcot_rd.reasoning import write, write_label
from mulcot_rd.schema import Post, TrainingRow
from mulcot_rd.training.distributions import StoredDistributions
from mulcot_rd.training.images import ImageSource


@dataclass(frozen=True)
class Example:
    """One training row, tokenised; ids lie in arrays, since a list of Python integers takes nine times the memory.

    Attributes:
        post_id: The post it comes from.
        image: Path of its image.
        prefix: Token ids that all tasks share.
        suffixes: Task to the token ids between the prefix and the answer.
        targets: Task to the token ids of the answer, the end of the turn included.
    """

    post_id: str
    image: str
    prefix: array
    suffixes: dict[Task, array]
    targets: dict[Task, array]

    @property
    def counts(self) -> dict[str, int]:
        """What the losses of its window are means over, as far as the row adds to it: target tokens by task."""
        return {task: len(ids) for task, ids in self.targets.items()}

    @property
    def length(self) -> int:
        """Tokens of the row with all its branches."""
        return len(self.prefix) + sum(len(self.suffixes[t]) + len(self.targets[t]) for t in self.targets)


@dataclass(frozen=True)
class Batch(Rows):
    """A micro-batch: rows of branches and where their targets are.

    Attributes:
        predictors: Task to (row, position) of the N states whose next token is a target.
        targets: Task to the N target ids.
        assistant: Task to the assistant's distributions at the targets; ``None`` where no soft labels take part.
    """

    predictors: dict[Task, tuple[Tensor, Tensor]]
    targets: dict[Task, Tensor]
    assistant: dict[Task, StoredDistributions] | None = None


def make_example(row: TrainingRow, post: Post, encoder: InputEncoder, tasks: Sequence[Task]) -> Example:
    """Tokenise a training row: the reasoning it carries and the post's gold label are the targets."""
    texts: dict[Task, str] = {"label": write_label(post.label), "reasoning": write(row.reasoning)}
    prompts = {task: encoder.prompt(post, task) for task in tasks}
    return Example(
        post_id=post.id,
        image=post.image,
        prefix=token_ids(next(iter(prompts.values())).prefix),
        suffixes={task: token_ids(prompt.suffix) for task, prompt in prompts.items()},
        targets={task: token_ids(encoder.target(texts[task], task)) for task in tasks},
    )


def training_examples(
    rows: Sequence[TrainingRow],
    posts: Sequence[Post],
    encoder: InputEncoder,
    what: str,
    tasks: Sequence[Task] = TASKS,
) -> list[Example]:
    """Training rows, tokenised for these tasks, each with its post of the training split.

    Raises:
        StaleInputError: If a row's post is not there; the message begins with ``what`` the rows are.
    """
    training = {post.id: post for post in posts if post.split == "train"}
    try:
        chosen = [training[row.post_id] for row in rows]
    except KeyError as error:
        raise StaleInputError(
            f"{what} names post {error}, which is not in the training split at hand: use the --params "
            "that it was made with (limit), or run the pipelines from teacher_annotation on again"
        ) from error
    return [make_example(row, post, encoder, tasks) for row, post in zip(rows, chosen, strict=True)]


def examples_fingerprint(examples: Sequence[Example]) -> str:
    """Hash of tokenised rows and images."""
    images = image_hashes(example.image for example in examples)
    return fingerprint(
        [
            [
                e.post_id,
                images[e.image],
                e.prefix.tobytes().hex(),
                *([task, e.suffixes[task].tobytes().hex(), e.targets[task].tobytes().hex()] for task in e.targets),
            ]
            for e in examples
        ]
    )


def token_ids(ids: Sequence[int]) -> array:
    """Token ids as an :class:`Example` keeps them."""
    return array("i", ids)


def collate(examples: Sequence[Example], encoder: InputEncoder, images: ImageSource | None = None) -> Batch:
    """Pad examples into a batch; nothing is ever cut, so image tokens can't be lost.

    Args:
        examples: The rows; all have the tasks of the first.
        encoder: Knows the family, its padding and its image tokens.
        images: Where the images' inputs come from, if they are stored; by default the encoder makes them.
    """
    tasks = list(examples[0].targets)
    rows, begins = branch_rows(
        [example.prefix for example in examples],
        [[example.suffixes[task] + example.targets[task] for task in tasks] for example in examples],
        [example.image for example in examples],
        encoder,
        images,
    )
    places: dict[Task, tuple[list[int], list[int]]] = {task: ([], []) for task in tasks}
    targets: dict[Task, list[int]] = {task: [] for task in tasks}
    for index, (example, starts) in enumerate(zip(examples, begins, strict=True)):
        for task, start in zip(tasks, starts, strict=True):
            first, count = start + len(example.suffixes[task]) - 1, len(example.targets[task])
            places[task][0].extend([index] * count)
            places[task][1].extend(range(first, first + count))
            targets[task].extend(example.targets[task])
    return Batch(
        **vars(rows),
        predictors={task: (torch.tensor(r), torch.tensor(p)) for task, (r, p) in places.items()},
        targets={task: torch.tensor(ids) for task, ids in targets.items()},
    )


def windows(lengths: Sequence[int], rows: int, seed: int, epoch: int) -> list[list[int]]:
    """The epoch's accumulation windows as indices of rows: a permutation drawn from seed and epoch.

    Within a window the rows are ordered by length, so that micro-batches cut from it need little padding.

    Args:
        lengths: Tokens of each row of the training set.
        rows: Rows of a window.
        seed: Of the order.
        epoch: Counted from 0.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    return [
        sorted(order[start : start + rows], key=lambda index: (lengths[index], index))
        for start in range(0, len(order), rows)
    ]


def micro_batches(
    window: Sequence[int], rows: int, lengths: Sequence[int], tokens: int | None = None
) -> Iterator[Sequence[int]]:
    """A window cut into micro-batches, from its end.

    Args:
        window: Indices of rows, as :func:`windows` has them.
        rows: Rows of a micro-batch where no token budget is given.
        lengths: Tokens of each row of the training set.
        tokens: Tokens of a micro-batch at most, padding included; a row that is longer has one of its own. The short
            rows of a window then go together in greater numbers than the long ones. The loss doesn't depend on it.
    """
    end = len(window)
    while end:
        begin = max(0, end - rows)
        if tokens is not None:
            # The last row is the longest.
            begin = max(0, end - max(1, tokens // lengths[window[end - 1]]))
        yield window[begin:end]
        end = begin
