"""Training rows as tensors: each row holds its opening once and a branch for each task behind it.

A branch sees the opening and itself, never the other branch, and its positions go on from the opening's end. The
model's outputs on a branch are those of a separate pass over opening and branch, at the cost of one opening.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mulcot_rd.models.forward import Rows
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.prompts import Task
from mulcot_rd.reasoning import write, write_label
from mulcot_rd.schema import Post, TrainingRow


@dataclass(frozen=True)
class Example:
    """One training row, tokenised.

    Attributes:
        post_id: The post it comes from.
        image: Path of its image.
        opening: Token ids that all tasks share.
        endings: Task to the token ids between the opening and the answer.
        targets: Task to the token ids of the answer, the end of the turn included.
    """

    post_id: str
    image: str
    opening: list[int]
    endings: dict[Task, list[int]]
    targets: dict[Task, list[int]]

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
        opening=next(iter(prompts.values())).opening,
        endings={task: prompt.ending for task, prompt in prompts.items()},
        targets={task: encoder.target(texts[task], task) for task in tasks},
    )


def collate(examples: Sequence[Example], encoder: InputEncoder) -> Batch:
    """Pad examples into a batch; nothing is ever cut, so image tokens can't be lost."""
    apart = encoder.family.encoder_decoder
    openings = [[] if apart else example.opening for example in examples]
    rows, length = len(examples), max(e.length - (len(e.opening) if apart else 0) for e in examples)
    input_ids = torch.full((rows, length), encoder.tokenizer.pad_token_id, dtype=torch.long)
    segment = torch.full((rows, length), -1, dtype=torch.long)
    offset = torch.zeros((rows, length), dtype=torch.long)
    tasks = list(examples[0].targets)
    places: dict[Task, tuple[list[int], list[int]]] = {task: ([], []) for task in tasks}
    targets: dict[Task, list[int]] = {task: [] for task in tasks}
    for index, example in enumerate(examples):
        begin = start = len(openings[index])
        input_ids[index, :start] = torch.tensor(openings[index], dtype=torch.long)
        segment[index, :start] = 0
        for number, task in enumerate(tasks, start=1):
            branch = example.endings[task] + example.targets[task]
            end = start + len(branch)
            input_ids[index, start:end] = torch.tensor(branch)
            segment[index, start:end] = number
            offset[index, start:end] = start - begin
            first = start + len(example.endings[task]) - 1
            places[task][0].extend([index] * len(example.targets[task]))
            places[task][1].extend(range(first, end - 1))
            targets[task].extend(example.targets[task])
            start = end
    encoder_ids, encoder_valid = _padded([e.opening for e in examples], encoder) if apart else (None, None)
    return Batch(
        family=encoder.family,
        input_ids=input_ids,
        attention=_branch_attention(segment),
        branch_offset=offset,
        valid=segment >= 0,
        image_positions=encoder.image_positions(input_ids),
        images=encoder.images([example.image for example in examples]),
        encoder_ids=encoder_ids,
        encoder_valid=encoder_valid,
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


def _padded(rows: Sequence[Sequence[int]], encoder: InputEncoder) -> tuple[Tensor, Tensor]:
    """Rows of token ids, right-padded [B, L], and which positions are not padding."""
    length = max(len(row) for row in rows)
    ids = torch.full((len(rows), length), encoder.tokenizer.pad_token_id, dtype=torch.long)
    valid = torch.zeros_like(ids, dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        valid[index, : len(row)] = True
    return ids, valid


def _branch_attention(segment: Tensor) -> Tensor:
    """Causal attention in which a position sees the opening (segment 0) and its own segment; padding sees itself."""
    length = segment.shape[1]
    causal = torch.ones((length, length), dtype=torch.bool).tril()
    query, key = segment[:, :, None], segment[:, None, :]
    seen = causal & ((key == query) | (key == 0)) & (key >= 0)
    # A row of the mask with nothing in it makes softmax divide by zero.
    return (seen | torch.eye(length, dtype=torch.bool))[:, None]
