"""Keys and values of the rows that are being decoded: allocated once, aligned at their newest token.

Every row's newest token stands in the same column, the cursor, so one step writes one column for all rows and reads
one window of columns. Rows enter and leave in between. Distances between columns are distances between tokens, which
is what relative position biases need, and no key is ever copied to make room for the next.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, EncoderDecoderCache

# Columns beyond the longest row; the window moves back to the left once in so many steps.
_SLACK = 128


class RowCache:
    """Keys and values of at most ``rows`` rows.

    Args:
        read: Keys and values of a row's prompt [2 x layers, heads, tokens, units]: layers, heads, units, type and
            device are taken from it. Even entries are keys, odd ones values.
        crossed: The same of the encoder's states, for the decoder's attention to them; ``None`` without an encoder.
        rows: Rows at most.
        prompt: Tokens of the longest prompt that may enter.
        answer: Tokens of the longest answer.
        encoded: Tokens of the longest opening for the encoder.
        static: Whether a step works on all columns, with the cursor in a tensor, so that its shapes and addresses
            never change (graph capture); else on the columns in use.
    """

    def __init__(
        self, read: Tensor, crossed: Tensor | None, *, rows: int, prompt: int, answer: int, encoded: int, static: bool
    ) -> None:
        self.prompt, self.static = prompt, static
        self.columns = prompt + answer + _SLACK
        self.rows = 0
        self.low = self.cursor = prompt
        self.store = _room(read, rows, self.columns)
        self.start = torch.zeros(rows, dtype=torch.long, device=read.device)
        self._least = torch.finfo(read.dtype).min
        self._mask = read.new_zeros((rows, 1, 1, self.columns))
        self._column = torch.arange(self.columns, device=read.device)
        # The cursor for steps of fixed shape: zero-dimensional for the family's code, one-dimensional as an index.
        self.cursor_index = torch.full((1,), prompt, dtype=torch.long, device=read.device)
        layers = read.shape[0] // 2
        own = Cache(layers=[_Layer(self, index) for index in range(layers)])
        self.crossed = self.crossed_mask = None
        self.cache: Cache = own
        if crossed is not None:
            self.crossed = _room(crossed, rows, encoded)
            self.crossed_mask = crossed.new_zeros((rows, 1, 1, encoded))
            self._crossed_layers = [_Layer(self, index) for index in range(layers)]
            self.cache = EncoderDecoderCache(own, Cache(layers=self._crossed_layers))
            # The family's code then reads the layers' keys and values and never writes them.
            self.cache.is_updated = dict.fromkeys(range(layers), True)

    def enter(self, prompts: Sequence[tuple[Tensor, Tensor]], crossed: Sequence[Tensor | None]) -> None:
        """Put rows behind those that are there.

        Args:
            prompts: Keys and values of each row's opening and ending [2 x layers, heads, tokens, units].
            crossed: Of its opening in the encoder.
        """
        if self.rows == 0:
            self.low = self.cursor = self.prompt
        first, starts = self.rows, []
        for row, (opening, ending) in enumerate(prompts, start=first):
            middle = self.cursor - ending.shape[2]
            start = middle - opening.shape[2]
            self.store[:, row, :, start:middle] = opening
            self.store[:, row, :, middle : self.cursor] = ending
            starts.append(start)
        self.rows += len(starts)
        self.start[first : self.rows] = torch.tensor(starts, device=self.start.device)
        self.low = min(self.low, *starts)
        self._refresh_mask(first)
        if self.crossed is not None:
            for row, states in enumerate(crossed, start=first):
                self.crossed[:, row, :, : states.shape[2]] = states
                self.crossed_mask[row] = self._least
                self.crossed_mask[row, ..., : states.shape[2]] = 0

    def keep(self, rows: int, holes: Tensor, movers: Tensor) -> None:
        """Let rows leave, so that the first ``rows`` rows are those that stay.

        Args:
            rows: How many stay.
            holes: Places of rows that left, among the first ``rows``.
            movers: Rows beyond them that stay and move there.
        """
        self.rows = rows
        if len(holes):
            window = slice(self.low, self.cursor)
            self.store[:, holes, :, window] = self.store[:, movers, :, window]
            self.start[holes] = self.start[movers]
            self._mask[holes] = self._mask[movers]
            if self.crossed is not None:
                self.crossed[:, holes] = self.crossed[:, movers]
                self.crossed_mask[holes] = self.crossed_mask[movers]
        if self.rows:
            self.low = int(self.start[: self.rows].min())

    def before_step(self, rows: int) -> None:
        """Make ready for a step of the first ``rows`` rows: a free column, and what they look at in the encoder."""
        if self.cursor == self.columns:
            self._shift()
        if self.static:
            self.cursor_index.fill_(self.cursor)
        if self.crossed is not None:
            for index, layer in enumerate(self._crossed_layers):
                layer.keys, layer.values = self.crossed[2 * index, :rows], self.crossed[2 * index + 1, :rows]

    def after_step(self) -> None:
        """Go on to the next column."""
        self.cursor += 1

    def mask(self, rows: int) -> Tensor:
        """What is added to the attention scores of a step, [rows, 1, 1, columns of the step]."""
        if not self.static:
            return self._mask[:rows, :, :, self.low : self.cursor + 1]
        seen = (self._column >= self.start[:rows, None]) & (self._column <= self.cursor_index)
        mask = self._mask.new_zeros(seen.shape).masked_fill_(~seen, self._least)
        return mask[:, None, None]

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Take in a step's keys and values [rows, heads, 1, units]; return all that the rows may look at."""
        rows = keys.shape[0]
        own_keys, own_values = self.store[2 * layer, :rows], self.store[2 * layer + 1, :rows]
        if self.static:
            own_keys.index_copy_(2, self.cursor_index, keys)
            own_values.index_copy_(2, self.cursor_index, values)
            return own_keys, own_values
        column = slice(self.cursor, self.cursor + 1)
        own_keys[:, :, column] = keys
        own_values[:, :, column] = values
        window = slice(self.low, self.cursor + 1)
        return own_keys[:, :, window], own_values[:, :, window]

    @property
    def seen(self) -> int | Tensor:
        """Columns of a step before the one that it writes."""
        return self.cursor_index[0] if self.static else self.cursor - self.low

    def _shift(self) -> None:
        """Move the window to the left, as far as the next prompt to enter allows."""
        shift = min(self.low, self.cursor - self.prompt)
        used = self.store[:, : self.rows, :, self.low : self.cursor].clone()
        self.store[:, : self.rows, :, self.low - shift : self.cursor - shift] = used
        self.low -= shift
        self.cursor -= shift
        self.start[: self.rows] -= shift
        self._refresh_mask(0)

    def _refresh_mask(self, first: int) -> None:
        rows = slice(first, self.rows)
        self._mask[rows] = 0
        self._mask[rows].masked_fill_((self._column < self.start[rows, None])[:, None, None], self._least)


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
        """Write a step's column and return the window."""
        return self._cache.write(self._index, key_states, value_states)

    def get_seq_length(self) -> int | Tensor:
        """Columns before the one that is written."""
        return self._cache.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns of a step, and the first one."""
        cache = self._cache
        return (cache.columns if cache.static else cache.cursor - cache.low + query_length), 0

    def get_max_length(self) -> int:
        """Columns there are."""
        return self._cache.columns


def _room(like: Tensor, rows: int, columns: int) -> Tensor:
    layers, heads, _, units = like.shape
    return like.new_zeros((layers, rows, heads, columns, units))
