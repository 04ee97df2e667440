"""CUDA graphs of single steps: the kernels of a step are recorded once and then started all together."""

import os
import typing as tp

import torch

if tp.TYPE_CHECKING:
    from .state import DecoderState

SWITCH = "AUDIOCRAFT_CUDA_GRAPHS"


def graphs_wanted(asked: bool | None, device: torch.device) -> bool:
    """Whether steps are recorded: as asked for, else unless the environment variable `AUDIOCRAFT_CUDA_GRAPHS` is 0; on
    CUDA only."""
    wanted = os.environ.get(SWITCH, "1") != "0" if asked is None else asked
    return wanted and device.type == "cuda"


def run_step(state: "DecoderState", key: tp.Hashable, step: tp.Callable[[], None]) -> None:
    """Do what `step()` does to the tensors of `state`, from a graph where there is one.

    A graph works on the addresses it was recorded with, so it belongs to the state and lives as long. The first step
    of a kind runs as it is, on the stream that records later, and so warms up what kernels set up when first called;
    the second is recorded; that and all others are played back.

    Args:
        state: written in place.
        key: what tells kinds of steps apart: all that `step` depends on besides the state's tensors.
        step: no Python of it is run again when the graph is played back.
    """
    device = state.sequence.device
    if "shared" not in state.graphs:
        state.graphs["shared"] = _Shared(device)
    shared, graph = state.graphs["shared"], state.graphs.get(key)
    with torch.cuda.device(device):
        if graph is None or graph is _WARM:
            shared.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(shared.stream):
                state.graphs[key] = _WARM if graph is None else _record(step, shared.pool)
                if graph is None:
                    step()
            torch.cuda.current_stream().wait_stream(shared.stream)
        if graph is not None:
            state.graphs[key].replay()


def _record(step: tp.Callable[[], None], pool: tp.Any) -> torch.cuda.CUDAGraph:
    """A graph of `step()`, which does not run. `torch.cuda.graph` would first empty torch's memory and collect garbage,
    which takes longer than the recording."""
    graph = torch.cuda.CUDAGraph()
    # Graphs of one state are never played at the same time, so they share the memory of what lies in between.
    graph.capture_begin(pool=pool)
    try:
        step()
    finally:
        graph.capture_end()
    return graph


_WARM = object()


class _Shared:
    """Stream and memory of the graphs of one state."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()
