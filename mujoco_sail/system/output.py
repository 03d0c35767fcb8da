"""Standard output and error that outlive whoever reads them."""

import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# The reader of a pipe has left, or the terminal is closed: nothing is wrong with what was written.
READER_GONE = (errno.EPIPE, errno.EIO, errno.EBADF)
NUMBERS = {"stdin": 0, "stdout": 1, "stderr": 2}


class _LastingFile(io.FileIO):
    """Drops what cannot be written.

    Attributes:
        error: The first reason that was none of `READER_GONE`.
    """

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            while (written := super().write(data)) is None:
                select.select([], [self], [])  # a pipe that is full, and was set not to block
            return written
        except OSError as error:
            if error.errno not in READER_GONE:
                self.error = self.error or error
            return memoryview(data).nbytes


@contextmanager
def lasting_output() -> Iterator[list[OSError]]:
    """Lets this process print on when nobody reads any more, or its terminal is closed.

    A character that the encoding does not have is printed as its number. A stream that is closed
    from the start becomes `/dev/null`, before a file of ours is opened under its number.

    Yields:
        Filled at the end: why standard output was not written, for instance a full disk.
    """
    for number in NUMBERS.values():
        _open_if_closed(number)
    failed: list[OSError] = []
    before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    lasting = {name: _lasting(stream, NUMBERS[name]) for name, stream in before.items()}
    for name, (_, stream) in lasting.items():
        setattr(sys, name, stream)
    try:
        yield failed
    finally:
        for name, (file, stream) in lasting.items():
            stream.flush()
            setattr(sys, name, before[name])
            if name == "stdout" and file and file.error:
                failed.append(file.error)


def _lasting(
    stream: io.TextIOWrapper | None, number: int
) -> tuple[_LastingFile | None, io.TextIOWrapper]:
    """A stream that writes to the same file, if it is one."""
    encoding, line_buffering = "utf-8", False
    if stream is not None:
        try:
            number = stream.fileno()
        except io.UnsupportedOperation:
            return None, stream  # it lies in memory
        stream.flush()
        encoding, line_buffering = stream.encoding, stream.line_buffering
    file = _LastingFile(number, "w", closefd=False)
    return file, io.TextIOWrapper(
        io.BufferedWriter(file), encoding, "backslashreplace", line_buffering=line_buffering
    )


def _open_if_closed(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
        os.set_inheritable(number, True)
