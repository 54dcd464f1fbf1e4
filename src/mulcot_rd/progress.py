"""Progress bars: rate and time left on a terminal, a line now and then in a log file."""

import sys
import threading
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

# Not tqdm's own, which processes could share: the system complains about it where a process is killed.
tqdm.set_lock(threading.RLock())


def progress(iterable: Iterable[Any] | None = None, **options: Any) -> tqdm:
    """A tqdm bar on standard error that writes seldom where nobody watches it."""
    watched = sys.stderr.isatty()
    return tqdm(
        iterable,
        dynamic_ncols=watched,
        ncols=None if watched else 110,
        mininterval=0.2 if watched else 20,
        maxinterval=1 if watched else 60,
        file=sys.stderr,
        **options,
    )
