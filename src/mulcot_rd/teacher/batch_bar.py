"""What is seen of batches while they run."""

from collections import Counter

from openai.types import Batch
from tqdm import tqdm

from mulcot_rd.progress import progress


class BatchBar:
    """A progress bar of the lines of all batches, with the states that these are in."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._lines: dict[str, tuple[int, int]] = {}
        self._states: dict[str, str] = {}

    def show(self, batch: Batch, lines: int) -> None:
        """Show a batch of so many lines as it stands now."""
        counts = batch.request_counts
        self._lines[batch.id] = (counts.completed + counts.failed if counts else 0, lines)
        self._states[batch.id] = batch.status
        if self._bar is None:
            self._bar = progress(total=0, desc="batches", unit="line")
        self._bar.total = sum(total for _, total in self._lines.values())
        states = Counter(self._states.values())
        self._bar.set_postfix_str(", ".join(f"{count} {state}" for state, count in states.items()), refresh=False)
        self._bar.update(sum(done for done, _ in self._lines.values()) - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
