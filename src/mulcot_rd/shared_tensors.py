"""Tensors in memory that several processes see."""

from collections.abc import Sequence
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor

# Every tensor begins at a multiple of so many bytes, as wide vector instructions like it.
_ALIGNMENT = 64


class SharedTensors:
    """Buffers for tensors of the given shapes; a worker that gets them at its start sees the same bytes.

    The buffers lie in ``/dev/shm`` where that has enough, else in a temporary file.

    Args:
        like: Tensors whose shapes and types are taken; their values are not.
    """

    def __init__(self, like: Sequence[Tensor]) -> None:
        self._kinds = [(tensor.shape, tensor.dtype) for tensor in like]
        self._bytes: Any = get_context("forkserver").RawArray("b", max(1, sum(map(_size, self._kinds))))

    def tensors(self) -> list[Tensor]:
        """The tensors, which share memory with the buffers."""
        begin, found = 0, []
        for shape, dtype in self._kinds:
            flat = torch.frombuffer(self._bytes, dtype=dtype, count=shape.numel(), offset=begin)
            found.append(flat.view(shape))
            begin += _size((shape, dtype))
        return found


def _size(kind: tuple[torch.Size, torch.dtype]) -> int:
    shape, dtype = kind
    return -(-shape.numel() * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
