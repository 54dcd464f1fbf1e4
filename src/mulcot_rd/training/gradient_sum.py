"""Gradient accumulation over the micro-batches of a window, whichever process computes them."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from mulcot_rd.distributed import Group


class GradientSum:
    """The sum of a window's gradients, in one flat buffer that all processes reduce once.

    In float64 the sum of float32 gradients is exact but for gradients of one number that differ by more than 2^29: so
    the step that follows is the same, bit for bit, for any number of processes and any order.

    Args:
        trained: The parameters that are trained, in an order that is the same in all processes.
        terms: Names of the loss's terms.
        group: The processes.
        dtype: Type of the buffer.
    """

    def __init__(
        self, trained: Sequence[torch.nn.Parameter], terms: Sequence[str], group: Group, dtype: torch.dtype
    ) -> None:
        self._trained, self._terms, self._group = trained, terms, group
        # Behind the gradients: of each parameter the number of micro-batches that it had a gradient in; the terms.
        numbers = sum(parameter.numel() for parameter in trained)
        self._sum = torch.zeros(numbers + len(trained) + len(terms), dtype=dtype, device=trained[0].device)
        self._gradients, self._given, self._losses = self._sum.split([numbers, len(trained), len(terms)])

    def clear(self) -> None:
        """Begin a window."""
        self._sum.zero_()

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Add the gradients of a micro-batch, which leave the parameters, and the terms of its loss."""
        for number, (parameter, part) in enumerate(self._parts()):
            if parameter.grad is not None:
                part.add_(parameter.grad)
                self._given[number] += 1
                parameter.grad = None
        for number, name in enumerate(self._terms):
            self._losses[number] += terms[name].detach()

    def reduce(self) -> dict[str, float]:
        """Give each parameter the sum over all micro-batches of all processes; returns the loss's terms."""
        self._group.sum_(self._sum)
        # Read at once: each reading makes the processor wait for a GPU.
        numbers = self._sum[self._gradients.numel() :].tolist()
        given, losses = numbers[: len(self._trained)], numbers[len(self._trained) :]
        for (parameter, part), has in zip(self._parts(), given, strict=True):
            parameter.grad = part.to(parameter.dtype) if has else None
        return dict(zip(self._terms, losses, strict=True))

    def _parts(self) -> Iterator[tuple[torch.nn.Parameter, Tensor]]:
        begin = 0
        for parameter in self._trained:
            end = begin + parameter.numel()
            yield parameter, self._gradients[begin:end].view(parameter.shape)
            begin = end
