"""Handlers of signals, which launchers of workers leave behind."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Those that the launchers of torch and of Ray handle.
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


@contextmanager
def handlers_restored() -> Iterator[None]:
    """Give signals the handlers back that they had before: else a later Ctrl-C would be one for the launcher.

    Torch's raises an error of its own; Ray's looks for a training that is over, and may end the process as if all were
    well.
    """
    if threading.current_thread() is not threading.main_thread():
        # Launchers set handlers in the main thread alone.
        yield
        return
    before = {number: signal.getsignal(number) for number in _HANDLED}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
