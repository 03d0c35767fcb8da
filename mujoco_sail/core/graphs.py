"""CUDA graphs: the kernels of a whole update are recorded once and then launched together.

On the CPU, or when recording is switched off, the function is called directly.
"""

from collections.abc import Callable, Hashable

import torch

# Eager calls before a recording, in which libraries initialise and the allocator warms up.
WARM_UP = 3


class GraphRecorder:
    """Runs a function as a CUDA graph, recorded once per key and then replayed.

    The function must read and write tensors at fixed addresses, draw no random numbers, and take
    the same path through its Python code in every call with the same key.
    """

    def __init__(self) -> None:
        self.calls: dict[Hashable, int] = {}
        self.recordings: dict[Hashable, torch.cuda.CUDAGraph] = {}

    def __call__(self, function: Callable[[], None], key: Hashable) -> None:
        """Runs the function, or replays its recording.

        Args:
            function: Called without arguments.
            key: Identifies the sequence of kernels that the function launches.
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
        """Calls the function on a side stream, which CUDA requires before a recording."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            function()
        torch.cuda.current_stream().wait_stream(stream)

    def _record(self, function: Callable[[], None]) -> torch.cuda.CUDAGraph:
        """Records the function without executing its kernels."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            function()
        return graph
