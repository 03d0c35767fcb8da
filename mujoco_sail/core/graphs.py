"""CUDA graphs: the kernels of a whole update are recorded once and then launched together.

On the CPU, and wherever recording is not wanted, the function is called as it is; a test compares
the two over whole updates.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

# Eager calls before a recording: libraries set themselves up, the allocator finds its sizes.
WARM_UP = 3


@dataclass(frozen=True)
class GraphRecording:
    """A graph and the tensors that every replay of it fills."""

    graph: torch.cuda.CUDAGraph
    outputs: dict[str, Tensor]


class GraphRecorder:
    """Calls a function by replaying a recording of it; there is one recording per key.

    The function must read and write tensors that keep their place in memory, and what it does in
    Python must be the same in every call with the same key.

    Args:
        generators: All that the function draws from, on the device.
    """

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self.generators = generators
        self.calls: dict[Hashable, int] = {}
        self.recordings: dict[Hashable, GraphRecording] = {}

    def __call__(
        self,
        function: Callable[[], dict[str, Tensor]],
        key: Hashable,
        written: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """The function's result.

        Args:
            function: Called without arguments; returns a dictionary of tensors.
            key: Equal keys stand for the same sequence of kernels.
            written: Parameters that the function changes and that have cached copies in bfloat16;
                their version counters are raised, so that the copies are made anew.
        """
        if key not in self.recordings:
            self.calls[key] = self.calls.get(key, 0) + 1
            if self.calls[key] <= WARM_UP:
                return self._aside(function)
            # A recording must contain the making of rounded copies, even if they are fresh now.
            increment_version(written)
            self.recordings[key] = self._record(function)
        recording = self.recordings[key]
        recording.graph.replay()
        increment_version(written)
        return recording.outputs

    def _aside(self, function: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Calls the function on a side stream, which CUDA asks for before a recording."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = function()
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def _record(self, function: Callable[[], dict[str, Tensor]]) -> GraphRecording:
        """Records the function without carrying it out."""
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            outputs = function()
        return GraphRecording(graph, outputs)
