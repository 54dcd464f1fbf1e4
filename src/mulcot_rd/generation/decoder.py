"""Decoding: a KV cache of fixed size, and one step of the family's own decoder over all its rows."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, EncoderDecoderCache, StaticLayer

from mulcot_rd.generation.prefill import Branch
from mulcot_rd.models.forward import additive_mask
from mulcot_rd.models.inputs import InputEncoder


class Decoder:
    """Writes a token of every row a step; each row has its own number of tokens in the KV cache.

    On a GPU a step is replayed from a captured graph: launching the kernels one by one takes several times as long as
    running them. A captured step works on all columns.

    Args:
        base: The family's model.
        encoder: Knows the family and its tokens.
        like: A branch: layers, heads, units, type and device of the KV cache are taken from it.
        rows: Answers that are written together.
        columns: Tokens of a row at most, prompt and answer.
        encoded: Tokens of a prompt for the encoder at most; nothing without an encoder.
        static: Whether steps have fixed shapes; on a GPU they are then captured.
    """

    def __init__(
        self,
        base: PreTrainedModel,
        encoder: InputEncoder,
        like: Branch,
        *,
        rows: int,
        columns: int,
        encoded: int,
        static: bool,
    ) -> None:
        self._base, self._family, self._columns, self._static = base, encoder.family, columns, static
        self._tokens = len(encoder.tokenizer)
        # What a decoder with relative positions adds to its scores [heads, columns, columns].
        self._bias = encoder.family.relative_bias(base, columns)
        self._store, self._cache = _allocate(like.keys_values, rows, columns)
        self._own_layers = self._cache.layers
        # Keys and values of the encoder's states, and the mask over them.
        self._cross: tuple[Tensor, Tensor] | None = None
        if like.cross is not None:
            cross, cross_cache = _allocate(like.cross, rows, encoded)
            self._cross = cross, like.cross.new_zeros((rows, 1, 1, encoded))
            self._cache = EncoderDecoderCache(self._cache, cross_cache)
            # The family's code then reads the encoder's keys and values and never writes them.
            self._cache.is_updated = dict.fromkeys(range(len(cross_cache.layers)), True)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs = self._logits = torch.empty(0)

    def enter(self, row: int, branch: Branch) -> None:
        """Put a prompt into a row, in place of whatever was there."""
        self._store[:, row, :, : branch.keys_values.shape[2]] = branch.keys_values
        if self._cross is not None and branch.cross is not None:
            (cross, mask), tokens = self._cross, branch.cross.shape[2]
            cross[:, row, :, :tokens] = branch.cross
            mask[row] = torch.finfo(branch.cross.dtype).min
            mask[row, ..., :tokens] = 0

    def step(self, rows: Sequence[tuple[int, int, int] | None]) -> Tensor:
        """Read a token of every row.

        Args:
            rows: Of each row the token, the number of tokens before it, and its rotary position; ``None`` where there
                is no row.

        Returns:
            Logits of the next token [rows, tokens of the tokenizer]; what stands where there is no row means nothing.
        """
        inputs = torch.tensor([row or (0, 0, 0) for row in rows], device=self._base.device)
        if not self._static:
            return self._run(inputs, 1 + max(row[1] for row in rows if row))
        if inputs.device.type != "cuda":
            return self._run(inputs, self._columns)
        if self._graph is None:
            self._graph = self._capture(inputs)
        self._inputs.copy_(inputs)
        self._graph.replay()
        return self._logits

    def _run(self, inputs: Tensor, window: int) -> Tensor:
        """One step over the first ``window`` columns; ``inputs`` are the rows of :meth:`step` [rows, 3]."""
        tokens, lengths, positions = inputs.unbind(dim=1)
        for layer in self._own_layers:
            layer.begin_step(lengths, window)
        seen = torch.arange(window, device=inputs.device) <= lengths[:, None]
        mask = additive_mask(seen, self._base.dtype)[:, None, None]
        more: dict[str, Tensor] = {}
        if self._bias is None:
            more["position_ids"] = positions[:, None]
        else:
            # The family's own bias is that of a first token: the same for all columns, which changes no weight.
            mask = mask + self._bias[:, lengths, :window].transpose(0, 1)[:, :, None]
        if self._cross is not None:
            # The keys and values of the encoder's states are in the cache; what is given here is never read.
            more["encoder_hidden_states"] = mask.new_zeros((len(inputs), 1, 1))
            more["encoder_attention_mask"] = self._cross[1]
        states = self._family.decoder_states(
            self._base,
            input_ids=tokens[:, None],
            attention_mask=mask,
            past_key_values=self._cache,
            use_cache=True,
            **more,
        ).last_hidden_state
        return self._base.lm_head(states[:, 0])[:, : self._tokens]

    def _capture(self, inputs: Tensor) -> torch.cuda.CUDAGraph:
        """Capture a step; running it before, as capture demands, writes the same columns as the replay will."""
        # A graph reads its inputs where they were when it was captured.
        self._inputs = inputs.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                self._run(self._inputs, self._columns)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._logits = self._run(self._inputs, self._columns)
        return graph


class _Layer(StaticLayer):
    """Keys and values of one layer [rows, heads, columns, units]; each row is written behind its own tokens."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__(max_cache_len=keys.shape[2])
        self.keys, self.values, self.is_initialized = keys, values, True
        # Rows differ in it: masks and positions are given to every step instead.
        self.cumulative_length = 0
        self._rows = torch.arange(len(keys), device=keys.device)

    def begin_step(self, lengths: Tensor, window: int) -> None:
        """Say how many tokens each row has [rows], and how many columns the step reads."""
        self._lengths, self._window = lengths, window

    def update(self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object) -> tuple:
        """Take in a step's keys and values [rows, heads, 1, units]; returns the window's."""
        self.keys[self._rows, :, self._lengths] = key_states[:, :, 0]
        self.values[self._rows, :, self._lengths] = value_states[:, :, 0]
        return self.keys[:, :, : self._window], self.values[:, :, : self._window]


def _allocate(like: Tensor, rows: int, columns: int) -> tuple[Tensor, Cache]:
    """Keys and values of all layers [2 x layers, rows, heads, columns, units], and the cache that uses them."""
    layers, heads, _, units = like.shape
    store = like.new_zeros((layers, rows, heads, columns, units))
    return store, Cache(layers=[_Layer(*pair) for pair in store.unflatten(0, (-1, 2))])
