"""Stand-ins for CUDA's streams, so that the order of things around graphs can be seen without a GPU."""

from contextlib import nullcontext

import pytest
import torch


class Stream:
    def wait_stream(self, other: object) -> None:
        pass


def stand_in(monkeypatch: pytest.MonkeyPatch, graph: type) -> None:
    """Put stand-ins, and `graph` for CUDA's graphs, where torch has its own."""
    for name, thing in {
        "Stream": lambda device: Stream(),
        "current_stream": Stream,
        "stream": lambda stream: nullcontext(),
        "device": lambda device: nullcontext(),
        "graph_pool_handle": object,
        "CUDAGraph": graph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, thing)
