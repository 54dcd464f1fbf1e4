"""Gradient accumulation in one process, and over the processes of a worker pool."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mulcot_rd.generation.answers import Answerer
from mulcot_rd.generation.records import Answer
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.models.lora import TrainedModel, merged_adapter
from mulcot_rd.prompts import Task
from mulcot_rd.shared_tensors import SharedTensors
from mulcot_rd.training.batches import Batch, Example, collate
from mulcot_rd.training.images import ImageStore
from mulcot_rd.training.prefetch import ahead
from mulcot_rd.training.soft_labels import SoftLabels
from mulcot_rd.worker_pool import WorkerPool

# The batch and its window's target tokens by task, to loss and named terms.
LossFunction = Callable[[Batch, Mapping[Task, int]], tuple[Tensor, Mapping[str, Tensor]]]


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


class Learner(Answerer):
    """A model in training, which adds up the gradients of its micro-batches; every worker has a copy.

    Args:
        model: Model with the adapter to train.
        encoder: Makes the model's inputs.
        prepare: Makes the micro-batch of some rows, named by their indices; a thread of its own runs it ahead of its
            use.
        loss: One micro-batch's share of its window's loss.
    """

    def __init__(
        self, model: TrainedModel, encoder: InputEncoder, prepare: Callable[[Sequence[int]], Batch], loss: LossFunction
    ) -> None:
        super().__init__(model, encoder)
        self._prepare, self._loss = prepare, loss
        # What is trained, in an order that is the same in all processes.
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._batches: Generator[Batch, None, None] | None = None
        self._gradients: list[Tensor] = []

    def attach(self, weights: SharedTensors, gradients: SharedTensors) -> None:
        """Take the shared weights and gradients in place of this worker's own."""
        for parameter, own in zip(self.trained, weights.tensors(), strict=True):
            parameter.data = own
        self._gradients = gradients.tensors()

    def answer(self, *given: Any) -> list[Answer]:
        """As :meth:`Answerer.answer`, with the adapter in the weights for that time."""
        with merged_adapter(self.model):
            return super().answer(*given)

    def begin(self, batches: Sequence[Sequence[int]]) -> None:
        """Take the rows of the micro-batches to come, in their order; what was left of earlier ones is dropped."""
        self.end()
        self.model.train()
        self._batches = ahead(self._prepare, batches)

    def end(self) -> None:
        """Stop preparing batches."""
        if self._batches is not None:
            self._batches.close()
        self._batches = None

    def add(self, seeds: Sequence[int], tokens: Mapping[Task, int]) -> dict[str, Tensor]:
        """Add the gradients of the next micro-batches to the parameters'.

        Args:
            seeds: One for each micro-batch: dropout draws from it.
            tokens: Task to the number of target tokens in the whole window.

        Returns:
            The loss's terms, summed.
        """
        sums: dict[str, Tensor] = {}
        for seed in seeds:
            torch.manual_seed(seed)
            total, terms = self._loss(next(self._batches), tokens)
            total.backward()
            for name, value in terms.items():
                sums[name] = sums.get(name, 0) + value.detach()
        return sums

    def share(self, seeds: Sequence[int], tokens: Mapping[Task, int]) -> tuple[dict[str, float], list[bool]]:
        """A worker's part of a step: put the gradients of its micro-batches into the shared buffer.

        Returns:
            The loss's terms, and of each parameter whether it has a gradient.
        """
        sums = self.add(seeds, tokens)
        given = []
        for parameter, shared in zip(self.trained, self._gradients, strict=True):
            given.append(parameter.grad is not None)
            if parameter.grad is not None:
                shared.copy_(parameter.grad)
                parameter.grad = None
        return {name: float(value) for name, value in sums.items()}, given


class TrainingPool(WorkerPool):
    """Processes that train one model together: each adds up the gradients of its micro-batches, one makes the step.

    Weights are shared, so that all see a step when it is made. The sums don't depend on who is faster.

    Args:
        learner: This process's part; its trained weights move into shared memory.
        size: Processes, this one included.
    """

    def __init__(self, learner: Learner, size: int) -> None:
        weights = SharedTensors(learner.trained if size > 1 else [])
        gradients = [SharedTensors(learner.trained) for _ in range(size - 1)]
        super().__init__(learner, size, [(weights, own) for own in gradients])
        self._learner, self._gradients = learner, [own.tensors() for own in gradients]
        if size > 1:
            for parameter, own in zip(learner.trained, weights.tensors(), strict=True):
                own.copy_(parameter.data)
                parameter.data = own

    def __exit__(self, *given: Any) -> None:
        self._learner.end()
        super().__exit__(*given)

    def begin(self, batches: Sequence[Sequence[Sequence[int]]]) -> None:
        """Tell everyone the rows of the micro-batches to come, window by window."""
        self.ask("begin", [([rows for own in batches for rows in own[n :: self.size]],) for n in range(1, self.size)])
        self._learner.begin([rows for own in batches for rows in own[:: self.size]])
        self.results()

    def step(self, seeds: Sequence[int], tokens: Mapping[Task, int]) -> dict[str, float]:
        """The gradients of the next window's micro-batches, in this process's parameters; returns the loss's terms."""
        self.ask("share", [(seeds[number :: self.size], tokens) for number in range(1, self.size)])
        sums: dict[str, Any] = self._learner.add(seeds[:: self.size], tokens)
        for (terms, given), gradients in zip(self.results(), self._gradients, strict=True):
            for name, value in terms.items():
                sums[name] = sums.get(name, 0) + value
            for parameter, gradient, has in zip(self._learner.trained, gradients, given, strict=True):
                if has and parameter.grad is None:
                    parameter.grad = gradient.clone()
                elif has:
                    parameter.grad += gradient
        # Read once a step: each reading makes the processor wait for a GPU.
        return {name: float(value) for name, value in sums.items()}
