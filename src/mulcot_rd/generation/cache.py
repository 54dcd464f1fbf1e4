"""Keys and values of the rows that are being decoded: allocated once, written in place."""

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, EncoderDecoderCache


class RowCache:
    """Keys and values of ``rows`` rows, each with its own number of tokens.

    A step writes one token of each row behind the tokens that the row has; a mask says which columns a row has filled.

    Args:
        prefix: Keys and values of a prompt [2 x layers, heads, tokens, units]: layers, heads, units, type and device
            are taken from it. Even entries are keys, odd ones values.
        crossed: The same of the encoder's states, for the decoder's attention to them; ``None`` without an encoder.
        rows: Number of rows.
        columns: Tokens of a row at most.
        encoded: Tokens of a prefix for the encoder at most.
    """

    def __init__(self, prefix: Tensor, crossed: Tensor | None, *, rows: int, columns: int, encoded: int) -> None:
        self.columns = columns
        self._store = _room(prefix, rows, columns)
        layers = [_Layer(self, *pair) for pair in self._store.unflatten(0, (-1, 2))]
        self.cache: Cache = Cache(layers=layers)
        self._crossed = self.crossed_mask = None
        if crossed is not None:
            self._crossed = _room(crossed, rows, encoded)
            self.crossed_mask = crossed.new_zeros((rows, 1, 1, encoded))
            others = [_Layer(self, *pair) for pair in self._crossed.unflatten(0, (-1, 2))]
            self.cache = EncoderDecoderCache(self.cache, Cache(layers=others))
            # The family's code then reads these layers' keys and values and never writes them.
            self.cache.is_updated = dict.fromkeys(range(len(layers)), True)
        self._rows = torch.arange(rows, device=prefix.device)
        self._lengths, self._window = torch.zeros_like(self._rows), columns

    def enter(self, row: int, prefix: Tensor, suffix: Tensor, crossed: Tensor | None) -> None:
        """Put a prompt into a row: keys and values [2 x layers, heads, tokens, units] of its parts."""
        middle = prefix.shape[2]
        self._store[:, row, :, :middle] = prefix
        self._store[:, row, :, middle : middle + suffix.shape[2]] = suffix
        if crossed is not None:
            tokens = crossed.shape[2]
            self._crossed[:, row, :, :tokens] = crossed
            self.crossed_mask[row] = torch.finfo(crossed.dtype).min
            self.crossed_mask[row, ..., :tokens] = 0

    def begin_step(self, lengths: Tensor, window: int) -> None:
        """Say how many tokens each row has [rows], and how many columns the step reads."""
        self._lengths, self._window = lengths, window

    def write(self, stored: Tensor, new: Tensor) -> Tensor:
        """Take in a step's keys or values [rows, heads, 1, units]; returns the window [rows, heads, window, units]."""
        stored[self._rows, :, self._lengths] = new[:, :, 0]
        return stored[:, :, : self._window]


class _Layer(CacheLayerMixin):
    """One layer of a :class:`RowCache`, as the family's attention asks for it."""

    is_sliding = False

    def __init__(self, cache: RowCache, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self._cache, self.keys, self.values = cache, keys, values
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: the room is there from the start."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object) -> tuple:
        """Write a step's tokens and return the window."""
        return self._cache.write(self.keys, key_states), self._cache.write(self.values, value_states)

    def get_seq_length(self) -> int:
        """Rows differ in it; masks and positions are given to every step instead."""
        return 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns that there are, and the first one; every step brings a mask of its own."""
        return self._cache.columns, 0

    def get_max_length(self) -> int:
        """Columns that there are."""
        return self._cache.columns


def _room(like: Tensor, rows: int, columns: int) -> Tensor:
    layers, heads, _, units = like.shape
    return like.new_zeros((layers, rows, heads, columns, units))
