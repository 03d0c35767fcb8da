"""Handling of signals that request a stop."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# A terminal sends these to all of its processes: on Ctrl-C, and when it closes.
TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGHUP)


@contextmanager
def terminal_signals_blocked() -> Iterator[None]:
    """Context that blocks `TERMINAL_SIGNALS`, also in processes started inside."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def stops_handled(on_signal: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Context in which `on_signal` handles every signal that requests a stop."""
    before = {
        number: signal.signal(number, on_signal)
        for number in (*TERMINAL_SIGNALS, signal.SIGTERM)
        # Under nohup, SIGHUP stays ignored.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
