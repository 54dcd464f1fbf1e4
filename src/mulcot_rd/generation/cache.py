"""Keys and values of the rows that are being decoded: allocated once, written in place, never concatenated."""

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, EncoderDecoderCache


class RowCache:
    """Keys and values of at most ``rows`` rows, each with its own number of tokens.

    A step writes the keys and values of its tokens into the slots it was given (row x columns + column) and reads a
    window of columns of the first rows; a mask says which of them a row has filled.

    Args:
        read: Keys and values of a prompt [2 x layers, tokens, heads, units]: layers, heads, units, type and device
            are taken from it. Even entries are keys, odd ones values.
        crossed: The same of the encoder's states, for the decoder's attention to them; ``None`` without an encoder.
        rows: Rows at most.
        columns: Tokens of a row at most.
        encoded: Tokens of an opening for the encoder at most.
    """

    def __init__(self, read: Tensor, crossed: Tensor | None, *, rows: int, columns: int, encoded: int) -> None:
        self.columns = columns
        self.store = _room(read, rows, columns)
        layers = read.shape[0] // 2
        self._own = [_Layer(self, index) for index in range(layers)]
        self._crossed_layers = [_Layer(self, index) for index in range(layers)]
        self.cache: Cache = Cache(layers=self._own)
        self.crossed = self.crossed_mask = None
        if crossed is not None:
            self.crossed = _room(crossed, rows, encoded)
            self.crossed_mask = crossed.new_zeros((rows, 1, 1, encoded))
            self.cache = EncoderDecoderCache(self.cache, Cache(layers=self._crossed_layers))
            # The family's code then reads these layers' keys and values and never writes them.
            self.cache.is_updated = dict.fromkeys(range(layers), True)
        self._slots = torch.zeros(0, dtype=torch.long)
        self._rows = self.window = 0

    def enter(self, row: int, opening: Tensor, ending: Tensor, crossed: Tensor | None) -> None:
        """Put a prompt into a row.

        Args:
            row: Its place.
            opening: Keys and values of the shared opening [2 x layers, tokens, heads, units].
            ending: Of the task's ending.
            crossed: Of the opening in the encoder.
        """
        middle = opening.shape[1]
        self.store[:, row, :middle] = opening
        self.store[:, row, middle : middle + ending.shape[1]] = ending
        if self.crossed is not None:
            tokens = crossed.shape[1]
            self.crossed[:, row, :tokens] = crossed
            self.crossed_mask[row] = torch.finfo(crossed.dtype).min
            self.crossed_mask[row, ..., :tokens] = 0

    def move(self, to: Tensor, of: Tensor, used: int) -> None:
        """Put the rows ``of``, of at most ``used`` tokens, into the places ``to``."""
        self.store[:, to, :used] = self.store[:, of, :used]
        if self.crossed is not None:
            self.crossed[:, to] = self.crossed[:, of]
            self.crossed_mask[to] = self.crossed_mask[of]

    def before_step(self, slots: Tensor, rows: int, window: int) -> None:
        """Say where the step's tokens go, and how many rows and columns it reads."""
        self._slots, self._rows, self.window = slots, rows, window
        if self.crossed is not None:
            for index, layer in enumerate(self._crossed_layers):
                layer.keys = self.crossed[2 * index, :rows].transpose(1, 2)
                layer.values = self.crossed[2 * index + 1, :rows].transpose(1, 2)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Take in keys and values of a step's N tokens [1, heads, N, units]; return what may be looked at.

        Returns:
            Keys and values [rows, heads, window, units].
        """
        seen = []
        for stored, new in ((self.store[2 * layer], keys), (self.store[2 * layer + 1], values)):
            stored.flatten(0, 1).index_copy_(0, self._slots, new[0].transpose(0, 1))
            seen.append(stored[: self._rows, : self.window].transpose(1, 2))
        return seen[0], seen[1]


class _Layer(CacheLayerMixin):
    """One layer of a :class:`RowCache`, as the family's attention asks for it."""

    is_sliding = False

    def __init__(self, cache: RowCache, index: int) -> None:
        super().__init__()
        self._cache, self._index = cache, index
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: the room is there from the start."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object) -> tuple:
        """Write a step's tokens and return the window."""
        return self._cache.write(self._index, key_states, value_states)

    def get_seq_length(self) -> int:
        """Rows differ in it; masks and positions are given to every step instead."""
        return 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns of a step, and the first one."""
        return self._cache.window, 0

    def get_max_length(self) -> int:
        """Columns there are."""
        return self._cache.columns


def _room(like: Tensor, rows: int, columns: int) -> Tensor:
    layers, _, heads, units = like.shape
    return like.new_zeros((layers, rows, columns, heads, units))
