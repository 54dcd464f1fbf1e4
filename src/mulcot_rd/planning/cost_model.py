"""FLOPs, bytes and hours of a model's work, as functions of its sizes and of a row's lengths.

A multiplication and an addition are two operations. Left out: attention inside the vision tower (some 5 percent of the
tower), norms and activations. The merger behind the tower is counted per patch, a few percent of the tower too many.
"""

from array import array
from dataclasses import dataclass

import torch
from pydantic import Field

from mulcot_rd.planning.shape import Shape, Stack
from mulcot_rd.prompts import Task
from mulcot_rd.schema import Record
from mulcot_rd.training.batches import Example
from mulcot_rd.training.distributions import CHUNK_BYTES
from mulcot_rd.training.soft_label_layouts import CompactLayout, ExactLayout
from mulcot_rd.training.soft_labels import SoftLabelParameters, expected_bytes

GIB = 2**30
# Trained weights and AdamW's two moments, in float32 each.
TRAINED_BYTES = 12
# Pieces of CHUNK_BYTES that the student's loss holds: its logits, the assistant's, scratch (training/gradients.py).
LOGIT_BUFFERS = 3


class Utilisation(Record):
    """Shares of a device's limits that the work reaches."""

    training: float = Field(gt=0, le=1, description="Model FLOPs of training over the peak, activations recomputed")
    training_activations_kept: float = Field(gt=0, le=1, description="The same, activations kept")
    soft_labels: float = Field(gt=0, le=1, description="Model FLOPs of the soft labels' forward pass over the peak")
    answering: float = Field(gt=0, le=1, description="Least time of prefill and reading weights over the time taken")


class Device(Record):
    """The device that a dry run counts with."""

    name: str = Field(description="What the report calls it")
    memory_gib: float = Field(gt=0, description="Memory, in GiB")
    tflops: float = Field(gt=0, description="Peak of dense bfloat16 products, in 10^12 operations a second")
    bandwidth_tb_s: float = Field(gt=0, description="Memory bandwidth, in 10^12 bytes a second")
    usd_per_hour: float = Field(ge=0, description="Price of an hour, in US dollars")
    utilisation: Utilisation = Field(description="Shares of the peak that are reached")

    def hours(self, flops: float, utilisation: float) -> float:
        """Hours of so many operations: FLOPs / (peak x utilisation) / 3600."""
        return flops / (self.tflops * 1e12 * utilisation) / 3600


@dataclass(frozen=True)
class Row:
    """Mean lengths of a training row, in tokens."""

    prefix: float  # what both tasks share, image tokens among them; in an encoder, where there is one
    suffixes: dict[Task, float]  # by task, what stands between prefix and answer
    answers: dict[Task, float]  # by task

    @property
    def targets(self) -> float:
        """Target tokens of all tasks."""
        return sum(self.answers.values())

    @property
    def branches(self) -> float:
        """Tokens behind the prefix."""
        return sum(self.suffixes.values()) + self.targets

    @property
    def tokens(self) -> float:
        """Tokens of the whole row."""
        return self.prefix + self.branches


def training_flops(shape: Shape, row: Row, assistant: Shape | None = None) -> float:
    """Model FLOPs of a training row, forward and backward.

    Frozen weights N take 4 N a token (2 forward, 2 for the inputs' gradient), trained ones 6 N, attention
    12 x tokens^2 x units of the queries; the head counts at target tokens. A frozen vision tower runs once a run. The
    head of the ``assistant`` makes logits of exact soft labels: 2 x head weights a target token.
    """
    flops = 0.0
    for stack, positions in _reads(shape, row, row.branches if shape.encoder is not None else row.tokens):
        if stack is not shape.vision:
            flops += stack.both_ways * positions + 12 * positions**2 * stack.queries
        elif stack.trained:
            flops += stack.both_ways * positions
    flops += (6 if shape.text.trained_whole else 4) * shape.head * row.targets
    return flops + (2 * assistant.head * row.targets if assistant is not None else 0)


def forward_flops(shape: Shape, row: Row) -> float:
    """FLOPs of one forward pass over a training row: 2 N a token, 4 x tokens^2 x units of the queries, no head."""
    text = row.branches if shape.encoder is not None else row.tokens
    products = sum(2 * (stack.weights + stack.adapter) * positions for stack, positions in _reads(shape, row, text))
    return products + 4 * text**2 * shape.text.queries


def answer_seconds(shape: Shape, row: Row, batch: int, device: Device) -> float:
    """Seconds for one post's answers to all tasks of ``row``, without retries.

    (FLOPs of prefill / peak + tokens / batch x bytes a step / bandwidth) / utilisation. A step reads the text model's
    weights and head once, and the KV cache of every row of the batch.
    """
    prompt = row.tokens - row.targets
    read = prompt - row.prefix if shape.encoder is not None else prompt
    prefill = sum(2 * stack.weights * positions for stack, positions in _reads(shape, row, read))
    columns = prompt / len(row.answers) + max(row.answers.values())
    step = (shape.text.weights + shape.head + batch * columns * shape.text.keys_values) * shape.item
    seconds = prefill / (device.tflops * 1e12) + row.targets / batch * step / (device.bandwidth_tb_s * 1e12)
    return seconds / device.utilisation.answering


def _reads(shape: Shape, row: Row, text: float) -> list[tuple[Stack, float]]:
    """The stacks that read a row, and the positions that each reads; the text model (or decoder) reads ``text``."""
    reads = ((shape.text, text), (shape.encoder, row.prefix), (shape.vision, shape.patches))
    return [(stack, positions) for stack, positions in reads if stack is not None]


def frozen_bytes(shape: Shape) -> int:
    """Bytes of the weights that are not trained: parameters x ``item``."""
    return (shape.total - shape.trained) * shape.item


def answering_bytes(shape: Shape) -> int:
    """Bytes of the weights while a trained model answers: an adapter is merged, weights trained whole have 4 bytes."""
    return frozen_bytes(shape) + (4 * shape.trained if shape.text.trained_whole else 0)


def gradient_sum_bytes(shape: Shape, gradient_sum: str) -> int:
    """Bytes of the sum of a step's gradients, of the type that ``cluster.gradient_sum`` names."""
    return getattr(torch, gradient_sum).itemsize * shape.trained


def activation_bytes(shape: Shape, positions: float, images: float, *, checkpointing: bool) -> float:
    """Bytes of a micro-batch's activations between forward and backward pass; ``positions`` are its tokens.

    A layer keeps, of each position: ``item`` x (outputs of its products + the widest once more, for the activation),
    8 x width for its two norms (float32), and 5 bytes a unit that an adapter reads (float32 and dropout's mask), or
    ``item`` a unit that trained weights read. With checkpointing (activations are computed again in the backward
    pass) it keeps its input alone, and one layer at a time has all the rest.
    """
    kept, largest = 0.0, 0.0
    stacks = [(shape.text, positions), (shape.encoder, positions)]
    if shape.vision is not None and shape.vision.trained:
        stacks.append((shape.vision, images * shape.patches))
    for stack, read in stacks:
        if stack is None:
            continue
        every = shape.item * (stack.outputs + stack.layers * stack.widest) + 8 * stack.layers * stack.width
        every += 5 * stack.adapter_inputs + shape.item * stack.whole_inputs
        inputs = stack.layers * stack.width * shape.item
        kept += read * (inputs if checkpointing else every)
        largest = max(largest, read * every / stack.layers if checkpointing else 0.0)
    return kept + largest


def logit_bytes(vocabulary: int) -> int:
    """Bytes of the loss's logits on a GPU: three pieces of at most ``CHUNK_BYTES``, of one position at least."""
    return LOGIT_BUFFERS * max(CHUNK_BYTES["gpu"], 4 * vocabulary)


def cache_bytes(shape: Shape, columns: float, rows: int) -> float:
    """Bytes of the KV cache: rows x columns x units of keys and values x ``item``."""
    return rows * columns * shape.text.keys_values * shape.item


def image_feature_bytes(shape: Shape, images: int) -> int:
    """Bytes on disk of what a frozen vision tower makes of so many images; none where the tower is trained."""
    if shape.vision is None or shape.vision.trained:
        return 0
    return images * shape.image_tokens * shape.text.width * shape.feature_layers * shape.item


def soft_label_bytes(positions: float, assistant: Shape, parameters: SoftLabelParameters) -> float:
    """Bytes of soft labels on disk at so many target tokens, as training/soft_labels.py expects them, with the head."""
    width, vocabulary = assistant.text.width, assistant.vocabulary
    one = Example(post_id="", image="", prefix=array("i"), suffixes={}, targets={"label": array("i", [0])})
    exact = parameters.kind == "exact"
    layout = (
        ExactLayout(torch.empty(0), None)
        if exact
        else CompactLayout(parameters.top_k, parameters.temperature, vocabulary)
    )
    each = expected_bytes([one], layout, width, assistant.item, vocabulary)
    return positions * each + (assistant.head * assistant.item if exact else 0)
