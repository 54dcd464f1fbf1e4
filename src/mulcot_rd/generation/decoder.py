"""One step of decoding: the new tokens of every row through the family's own decoder."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mulcot_rd.generation.attention import NAME, Packing, causal_mask, distances
from mulcot_rd.generation.cache import RowCache
from mulcot_rd.models.family import Family


@dataclass(frozen=True)
class Step:
    """What a step gives.

    Attributes:
        states: Last hidden states of its N tokens [N, hidden size].
        packing: Where the tokens stand.
        rows: Rows that mean something.
    """

    states: Tensor
    packing: Packing
    rows: int

    def by_row(self, values: Tensor) -> Tensor:
        """Something of each token [N, ...] as [rows, width, ...], ``width`` the greatest number of a row's tokens.

        What stands in places without a token means nothing.
        """
        return self.packing.unpack(values)[: self.rows]


class Decoder:
    """Runs steps over a :class:`RowCache`.

    With fixed shapes, a step works on all columns, on ``width`` tokens in every row and on a number of rows that is a
    power of two or all of them; what is too much is computed and ignored. On a GPU such steps are replayed from
    captured graphs: launching a small model's kernels one by one takes longer than running them.

    Args:
        family: The model's family.
        base: The model.
        cache: The rows.
        rows: Rows at most.
        rotary_dimensions: Dimensions of the family's positions: 3 for time, height and width, 1 for plain ones, 0
            where the family takes none.
        width: Tokens of a row in one step at most.
        static: Whether shapes are fixed.
    """

    def __init__(
        self,
        family: Family,
        base: PreTrainedModel,
        cache: RowCache,
        *,
        rows: int,
        rotary_dimensions: int,
        width: int,
        static: bool,
    ) -> None:
        self._family, self._base, self._cache = family, base, cache
        self._decoder = base.get_decoder()
        self._dimensions, self._static, self._width, self._rows = rotary_dimensions, static, width, rows
        self._captures = static and base.device.type == "cuda"
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor, Tensor, Tensor]] = {}

    def step(self, tokens: Sequence[Sequence[int]], lengths: Sequence[int], positions: Sequence[int]) -> Step:
        """Read the new tokens of every row.

        Args:
            tokens: Of each row, at least one.
            lengths: Tokens that each row has before.
            positions: Rotary position of each row's first new token.

        Returns:
            What the model makes of them.
        """
        rows = len(tokens)
        width = self._width if self._static else max(map(len, tokens))
        count = min(1 << (rows - 1).bit_length(), self._rows) if self._static else rows
        ragged = not self._static and any(len(own) < width for own in tokens)
        placed, flat = [], []
        # Of each token its id, the slot of its keys and values, and its rotary position.
        for row, own in enumerate(tokens):
            for number in range(len(own) if ragged else width):
                placed.append(row * width + number)
                token = own[number] if number < len(own) else 0
                flat.append((token, row * self._cache.columns + lengths[row] + number, positions[row] + number))
        for row in range(rows, count):
            flat.extend((0, row * self._cache.columns + number, number) for number in range(width))
        device = self._base.device
        given = torch.tensor(flat, device=device)
        known = torch.tensor([*lengths, *[0] * (count - rows)], device=device)
        packing = Packing(count, width, torch.tensor(placed, device=device) if ragged else None)
        window = self._cache.columns if self._static else max(lengths) + width
        run = self._replay if self._captures else self._run
        states = run(given, known, packing, window)
        return Step(states, packing, rows)

    def _run(self, given: Tensor, lengths: Tensor, packing: Packing, window: int) -> Tensor:
        """Last hidden states [N, hidden size] of the step's tokens ([N, 3]: id, slot, rotary position)."""
        cache = self._cache
        cache.before_step(given[:, 1], packing.rows, window)
        mask = causal_mask(lengths, packing.width, window, self._base.dtype)
        more: dict[str, Tensor] = {}
        if self._dimensions:
            more["position_ids"] = given[:, 2].expand(self._dimensions, 1, -1).squeeze(0)
        else:
            bias = self._family.relative_bias(self._base, distances(lengths, packing.width, window))
            mask = mask if bias is None else mask + bias
        if cache.crossed is not None:
            # The keys and values of the encoder's states are in the cache; what is given here is never read.
            more["encoder_hidden_states"] = cache.crossed.new_zeros((1, 1, 1))
            more["encoder_attention_mask"] = cache.crossed_mask[: packing.rows]
        with _packed(self._decoder):
            return self._decoder(
                input_ids=given[:, 0][None],
                attention_mask=mask,
                past_key_values=cache.cache,
                use_cache=True,
                packing=packing,
                **more,
            ).last_hidden_state[0]

    def _replay(self, given: Tensor, lengths: Tensor, packing: Packing, window: int) -> Tensor:
        """The same from a captured graph, which reads its inputs where they were when it was captured."""
        if packing.rows not in self._graphs:
            self._graphs[packing.rows] = self._captured(given.clone(), lengths.clone(), packing, window)
        graph, own_given, own_lengths, states = self._graphs[packing.rows]
        own_given.copy_(given)
        own_lengths.copy_(lengths)
        graph.replay()
        return states

    def _captured(
        self, given: Tensor, lengths: Tensor, packing: Packing, window: int
    ) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor, Tensor]:
        """Capture a step; running it before, as capture demands, writes the same slots as the replay will."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                self._run(given, lengths, packing, window)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            states = self._run(given, lengths, packing, window)
        return graph, given, lengths, states


@contextmanager
def _packed(decoder: torch.nn.Module) -> Iterator[None]:
    """While inside, the decoder's attention is the packed one."""
    config = decoder.config
    own = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = own
