"""One step of decoding: the newest token of every row through the family's own decoder."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mulcot_rd.generation.cache import RowCache


class Decoder:
    """Runs steps over a :class:`RowCache`.

    On a GPU each step is replayed from a captured graph: launching a small model's kernels one by one takes longer
    than running them. Graphs are captured for numbers of rows that are powers of two and for all rows; rows beyond
    those in use are computed and ignored.

    Args:
        base: The family's model.
        cache: Its rows; a static one where steps are to be captured.
        rotary_dimensions: Leading dimensions of the family's positions: 3 for time, height and width, 1 for plain
            ones, 0 where the family takes none.
        hidden_size: Units of a last hidden state.
    """

    def __init__(self, base: PreTrainedModel, cache: RowCache, *, rotary_dimensions: int, hidden_size: int) -> None:
        self.cache = cache
        self._decoder = base.get_decoder()
        self._dimensions = rotary_dimensions
        rows = len(cache.start)
        self.tokens = torch.zeros(rows, dtype=torch.long, device=base.device)
        self.positions = torch.zeros(rows, dtype=torch.long, device=base.device)
        self.states = torch.zeros((rows, hidden_size), dtype=base.dtype, device=base.device)
        self._captures = cache.static and base.device.type == "cuda"
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}

    def step(self, rows: int) -> None:
        """Read ``tokens`` of the first ``rows`` rows at ``positions``; leave the new last states in ``states``."""
        count = self._padded(rows) if self.cache.static else rows
        self.cache.before_step(count)
        if not self._captures:
            self._run(count)
        else:
            if count not in self._graphs:
                self._graphs[count] = self._captured(count)
            self._graphs[count].replay()
        self.cache.after_step()
        self.positions[:rows] += 1

    def _padded(self, rows: int) -> int:
        return min(1 << (rows - 1).bit_length(), len(self.tokens))

    def _run(self, rows: int) -> None:
        given: dict[str, Tensor] = {}
        if self._dimensions:
            positions = self.positions[:rows, None]
            given["position_ids"] = positions.expand(3, -1, -1) if self._dimensions == 3 else positions
        if self.cache.crossed is not None:
            # The keys and values of the encoder's states are in the cache; what is given here is never read.
            given["encoder_hidden_states"] = self.states[:rows, None]
            given["encoder_attention_mask"] = self.cache.crossed_mask[:rows]
        output = self._decoder(
            input_ids=self.tokens[:rows, None],
            attention_mask=self.cache.mask(rows),
            past_key_values=self.cache.cache,
            use_cache=True,
            **given,
        )
        self.states[:rows] = output.last_hidden_state[:, -1]

    def _captured(self, rows: int) -> torch.cuda.CUDAGraph:
        """Capture a step; running it before, as capture demands, writes the same column as the replay will."""
        kept = self.states.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                self._run(rows)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._run(rows)
        self.states.copy_(kept)
        return graph
