"""Training rows as tensors: an opening once, and behind it a branch for each task of each row that has this opening.

A branch sees the opening and itself, never another branch, and its positions go on from the opening's end. The
model's outputs on a branch are those of a separate pass over opening and branch, at the cost of one opening. A post
has one training row for each reasoning (the teacher's, the assistant's; Eq. 8), so its rows are kept together.
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
from mulcot_rd.training.distributions import Distributions
from mulcot_rd.training.images import ImageSource


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
        assistant: Task to the assistant's distributions at the targets; ``None`` where no soft labels take part.
    """

    predictors: dict[Task, tuple[Tensor, Tensor]]
    targets: dict[Task, Tensor]
    assistant: dict[Task, Distributions] | None = None


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


def collate(examples: Sequence[Example], encoder: InputEncoder, images: ImageSource | None = None) -> Batch:
    """Pad examples into a batch, those with the same image and opening as one row where that makes it smaller.

    Nothing is ever cut, so image tokens can't be lost.

    Args:
        examples: The rows; all have the tasks of the first.
        encoder: Knows the family, its padding and its image tokens.
        images: Where the images' inputs come from, if they are stored; by default the encoder makes them.
    """
    tasks = list(examples[0].targets)
    sharing = _sharing(examples)
    rows, begins = branch_rows(
        [examples[own[0]].opening for own in sharing],
        [[examples[n].endings[task] + examples[n].targets[task] for n in own for task in tasks] for own in sharing],
        [examples[own[0]].image for own in sharing],
        encoder,
        images,
    )
    # Of each example its row, and where its branches begin.
    branches = {
        number: (index, starts[place * len(tasks) : (place + 1) * len(tasks)])
        for index, (own, starts) in enumerate(zip(sharing, begins, strict=True))
        for place, number in enumerate(own)
    }
    places: dict[Task, tuple[list[int], list[int]]] = {task: ([], []) for task in tasks}
    targets: dict[Task, list[int]] = {task: [] for task in tasks}
    # In the order of the examples, as everything is that is known of their targets.
    for number, example in enumerate(examples):
        index, starts = branches[number]
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


def _sharing(examples: Sequence[Example]) -> list[list[int]]:
    """The examples of each row: those with the same image and opening, unless the others' padding takes more."""
    together: dict[tuple[str, bytes], list[int]] = {}
    for number, example in enumerate(examples):
        together.setdefault((example.image, example.opening.tobytes()), []).append(number)

    def padded_tokens(rows: Sequence[Sequence[int]]) -> int:
        return len(rows) * max(
            sum(examples[n].length for n in own) - (len(own) - 1) * len(examples[own[0]].opening) for own in rows
        )

    return min([[number] for number in range(len(examples))], list(together.values()), key=padded_tokens)


def windows(
    lengths: Sequence[int], rows: int, seed: int, epoch: int, posts: Sequence[str] | None = None
) -> list[list[int]]:
    """The epoch's accumulation windows as indices of rows: a permutation of posts drawn from seed and epoch.

    Args:
        lengths: Tokens of each row of the training set.
        rows: Rows of a window.
        seed: Of the order.
        epoch: Counted from 0.
        posts: The post of each row; rows of one post follow one another. ``None`` takes each row for a post.

    Within a window the rows are ordered by length, so that micro-batches cut from it need little padding, and rows that
    share a post come behind those that don't.
    """
    grouped = list(_by_post(range(len(lengths)), posts).values())
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = [
        index for number in torch.randperm(len(grouped), generator=generator).tolist() for index in grouped[number]
    ]
    return [_by_length(order[start : start + rows], lengths, posts) for start in range(0, len(order), rows)]


def _by_length(window: Sequence[int], lengths: Sequence[int], posts: Sequence[str] | None) -> list[int]:
    """The window's rows by length, rows of one post beside one another."""
    together = _together(window, posts)

    def key(index: int) -> tuple[int, int, int, int, int]:
        own = together[index]
        return len(own), max(lengths[other] for other in own), own[0], lengths[index], index

    return sorted(window, key=key)


def _together(window: Sequence[int], posts: Sequence[str] | None) -> dict[int, list[int]]:
    """Of each of the window's rows, those of its post in the window."""
    return {index: own for own in _by_post(window, posts).values() for index in own}


def _by_post(rows: Sequence[int], posts: Sequence[str] | None) -> dict[str | int, list[int]]:
    """Rows of each post, in their order; ``None`` takes each row for a post."""
    found: dict[str | int, list[int]] = {}
    for index in rows:
        found.setdefault(index if posts is None else posts[index], []).append(index)
    return found


def micro_batches(
    window: Sequence[int],
    rows: int,
    lengths: Sequence[int],
    tokens: int | None = None,
    posts: Sequence[str] | None = None,
) -> Iterator[Sequence[int]]:
    """A window cut into micro-batches, from its end.

    Args:
        window: Indices of rows, as :func:`windows` has them.
        rows: Rows of a micro-batch where no token budget is given.
        lengths: Tokens of each row of the training set.
        tokens: Tokens of a micro-batch at most, padding included; a row that is longer has one of its own. The short
            rows of a window then go together in greater numbers than the long ones, and rows that share a post's
            opening are not padded with those that don't. The loss doesn't depend on it.
        posts: The post of each row, as for :func:`windows`.
    """
    together = _together(window, posts)
    end = len(window)
    while end:
        begin = max(0, end - rows)
        if tokens is not None:
            begin, longest, kind = end - 1, lengths[window[end - 1]], len(together[window[end - 1]])
            while begin and len(together[window[begin - 1]]) == kind:
                longest = max(longest, lengths[window[begin - 1]])
                if (end - begin + 1) * longest > tokens:
                    break
                begin -= 1
        yield window[begin:end]
        end = begin
