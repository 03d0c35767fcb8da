"""Standard output and error that tolerate a closed pipe or terminal."""

import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# The reader of a pipe has exited, or the terminal is closed: not an error of this program.
READER_GONE = (errno.EPIPE, errno.EIO, errno.EBADF)
NUMBERS = {"stdin": 0, "stdout": 1, "stderr": 2}


class _LastingFile(io.FileIO):
    """File that discards output that cannot be written.

    Attributes:
        error: First error that is not one of `READER_GONE`.
    """

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            while (written := super().write(data)) is None:
                select.select([], [self], [])  # waits until a full, non-blocking pipe is free
            return written
        except OSError as error:
            if error.errno not in READER_GONE:
                self.error = self.error or error
            return memoryview(data).nbytes


@contextmanager
def lasting_output() -> Iterator[list[OSError]]:
    """Lets this process continue if its output is no longer read or its terminal is closed.

    Characters that the encoding lacks are printed as escapes. A stream that is closed at the start
    is replaced by `/dev/null`, so that no other file gets its descriptor.

    Yields:
        List that gets, at the end, the error of standard output if there was one, for example a
        full disk.
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
    """Replaces a stream by one that writes to the same file and discards what it cannot write."""
    encoding, line_buffering = "utf-8", False
    if stream is not None:
        try:
            number = stream.fileno()
        except io.UnsupportedOperation:
            return None, stream  # a stream in memory
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
