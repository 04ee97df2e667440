"""CUDA graphs of single steps: the kernels of a step are recorded once and then started all together."""

import os
import threading
import typing as tp
from functools import cache

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

    A graph works on the addresses it was recorded with, so it belongs to the state and lives as long; `DecoderState.
    begin_anew` gives both to other clips. The first step of a kind runs as it is, on the stream that records later, and
    so warms up what kernels set up when first called; the second is recorded; that and all others are played back.

    Args:
        state: written in place.
        key: what tells kinds of steps apart: all that `step` depends on besides the state's tensors.
        step: no Python of it is run again when the graph is played back.
    """
    device = state.sequence.device
    graph = state.graphs.get(key)
    with torch.cuda.device(device):
        if graph is None or graph is _WARM:
            stream = _stream(device)
            with _one_at_a_time:
                stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(stream):
                    state.graphs[key] = _WARM if graph is None else _record(step, _pool(state))
                    if graph is None:
                        step()
                torch.cuda.current_stream().wait_stream(stream)
        if graph is not None:
            state.graphs[key].replay()


def _record(step: tp.Callable[[], None], pool: tp.Any) -> torch.cuda.CUDAGraph:
    """A graph of `step()`, which does not run. `torch.cuda.graph` would first empty torch's memory and collect garbage,
    which takes longer than the recording."""
    graph = torch.cuda.CUDAGraph()
    # Other threads may go on allocating; in torch's own mode that would end the recording, and the run.
    graph.capture_begin(pool=pool, capture_error_mode="thread_local")
    try:
        step()
    finally:
        graph.capture_end()
    return graph


def _pool(state: "DecoderState") -> tp.Any:
    """The memory of what lies in between: graphs of one state are never played at the same time, so they share it."""
    if "pool" not in state.graphs:
        # torch keeps the pools of states that are gone until it is told to let go of them.
        torch.cuda.empty_cache()
        state.graphs["pool"] = torch.cuda.graph_pool_handle()
    return state.graphs["pool"]


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """Where steps are recorded. torch keeps memory apart by stream, so there is one."""
    return torch.cuda.Stream(device)


_WARM = object()
# What runs on the stream while another thread records there would be recorded too.
_one_at_a_time = threading.Lock()
