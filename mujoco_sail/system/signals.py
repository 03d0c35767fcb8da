"""Handling of signals that request a stop."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# A terminal sends these to all of its processes: on Ctrl-C, and when it closes.
TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGHUP)
# Batch systems send these some time before they kill: SLURM what `--signal` names, Grid Engine
# with `-notify` and LSF the first two, the kernel the last one at a limit of processor time.
BATCH_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
# More than one may come, or one that shells and the kernel both send: the second does not kill.
REPEATED = (signal.SIGHUP, *BATCH_SIGNALS)


@contextmanager
def signals_to_all_blocked() -> Iterator[None]:
    """Context that blocks signals that every process gets, also in processes started inside."""
    blocked = (*TERMINAL_SIGNALS, *BATCH_SIGNALS)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def stops_handled(on_signal: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Context in which `on_signal` handles every signal that requests a stop."""
    before = {
        number: signal.signal(number, on_signal)
        for number in (*TERMINAL_SIGNALS, *BATCH_SIGNALS, signal.SIGTERM)
        # Under nohup, SIGHUP stays ignored.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
