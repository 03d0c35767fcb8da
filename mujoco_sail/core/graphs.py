"""CUDA graphs: the kernels of a whole update are recorded once and then launched together.

On the CPU, and wherever recording is not wanted, the function is called as it is; a test compares
the two over whole updates.
"""

from collections.abc import Callable, Hashable

import torch

# Eager calls before a recording: libraries set themselves up, the allocator finds its sizes.
WARM_UP = 3


class GraphRecorder:
    """Calls a function by replaying a recording of it; there is one recording per key.

    The function must read and write tensors that keep their place in memory, draw no random
    numbers, and what it does in Python must be the same in every call with the same key.
    """

    def __init__(self) -> None:
        self.calls: dict[Hashable, int] = {}
        self.recordings: dict[Hashable, torch.cuda.CUDAGraph] = {}

    def __call__(self, function: Callable[[], None], key: Hashable) -> None:
        """Carries the function out.

        Args:
            function: Called without arguments.
            key: Equal keys stand for the same sequence of kernels.
        """
        if key in self.recordings:
            self.recordings[key].replay()
            return
        self.calls[key] = self.calls.get(key, 0) + 1
        if self.calls[key] <= WARM_UP:
            self._aside(function)
        else:
            self.recordings[key] = self._record(function)
            self.recordings[key].replay()

    def _aside(self, function: Callable[[], None]) -> None:
        """Calls the function on a side stream, which CUDA asks for before a recording."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            function()
        torch.cuda.current_stream().wait_stream(stream)

    def _record(self, function: Callable[[], None]) -> torch.cuda.CUDAGraph:
        """Records the function without carrying it out."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            function()
        return graph
