"""One step of decoding: a new token of every row through the family's own decoder."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mulcot_rd.generation.cache import RowCache
from mulcot_rd.models.forward import additive_mask
from mulcot_rd.models.inputs import InputEncoder


class Decoder:
    """Runs steps over a :class:`RowCache`, always of all its rows.

    On a GPU a step is replayed from a captured graph: launching the kernels one by one takes several times as long as
    running them. A captured step works on all columns.

    Args:
        encoder: Knows the family and its tokens.
        base: The model.
        cache: The rows.
        rotary_dimensions: Dimensions of the family's positions: 3 for time, height and width, 1 for plain ones, 0
            where the family takes none.
        static: Whether shapes are fixed.
    """

    def __init__(
        self, encoder: InputEncoder, base: PreTrainedModel, cache: RowCache, rotary_dimensions: int, *, static: bool
    ) -> None:
        self.cache = cache
        self._base, self._dimensions, self._static = base, rotary_dimensions, static
        self._tokens = len(encoder.tokenizer)
        # Asked for once: whatever a decoder without rotary positions adds to its scores [heads, columns, columns].
        self._bias = None if rotary_dimensions else encoder.family.relative_bias(base, cache.columns)
        self._captured: tuple[torch.cuda.CUDAGraph, Tensor, Tensor] | None = None

    def step(self, rows: Sequence[tuple[int, int, int] | None]) -> Tensor:
        """Read a token of every row.

        Args:
            rows: Of each row the token, the tokens before it, and its rotary position; ``None`` where there is no row.

        Returns:
            Logits of the next token [rows, tokens of the tokenizer]; what stands where there is no row means nothing.
        """
        given = torch.tensor([row or (0, 0, 0) for row in rows], device=self._base.device)
        if self._static and self._base.device.type == "cuda":
            return self._replay(given)
        return self._run(given, self.cache.columns if self._static else 1 + max(row[1] for row in rows if row))

    def _run(self, given: Tensor, window: int) -> Tensor:
        tokens, lengths, positions = given.unbind(dim=1)
        self.cache.begin_step(lengths, window)
        seen = torch.arange(window, device=given.device) <= lengths[:, None]
        mask = additive_mask(seen, self._base.dtype)[:, None, None]
        more: dict[str, Tensor] = {}
        if self._dimensions:
            more["position_ids"] = positions[:, None].expand(self._dimensions, -1, -1).squeeze(0)
        if self._bias is not None:
            # The family's own bias is that of a first token: the same for all columns, which changes no weight.
            mask = mask + self._bias[:, lengths, :window].transpose(0, 1)[:, :, None]
        if self.cache.crossed_mask is not None:
            # The keys and values of the encoder's states are in the cache; what is given here is never read.
            more["encoder_hidden_states"] = mask.new_zeros((len(given), 1, 1))
            more["encoder_attention_mask"] = self.cache.crossed_mask
        states = self._base.get_decoder()(
            input_ids=tokens[:, None], attention_mask=mask, past_key_values=self.cache.cache, use_cache=True, **more
        ).last_hidden_state
        return self._base.lm_head(states[:, 0])[:, : self._tokens]

    def _replay(self, given: Tensor) -> Tensor:
        """The step from a captured graph, which reads its inputs where they were when it was captured."""
        if self._captured is None:
            self._captured = self._capture(given.clone())
        graph, own, logits = self._captured
        own.copy_(given)
        graph.replay()
        return logits

    def _capture(self, given: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        """Capture a step; running it before, as capture demands, writes the same columns as the replay will."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                self._run(given, self.cache.columns)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = self._run(given, self.cache.columns)
        return graph, given, logits
