"""Signals that ask for a stop."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# A terminal sends these to every process that it has started: on Ctrl-C, and when it closes.
TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGHUP)


@contextmanager
def terminal_signals_blocked() -> Iterator[None]:
    """Blocks `TERMINAL_SIGNALS`; processes that are started inside inherit the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def stops_handled(on_signal: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Calls `on_signal` for every signal that asks the main process for a stop."""
    before = {
        number: signal.signal(number, on_signal)
        for number in (*TERMINAL_SIGNALS, signal.SIGTERM)
        # nohup ignores SIGHUP.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
