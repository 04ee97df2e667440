"""CUDA graphs without a GPU: the kernels of a step are recorded on the CPU and played back on the same memory, and no
Python of the step runs again. What lives on the host between steps, or in memory of its own, shows as a difference."""

import threading
import typing as tp

import pytest
import torch
from fake_cuda import stand_in
from tiny import tiny_lm
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from audiocraft.models import fast, generate, graphs
from audiocraft.models.fast import FastLM
from audiocraft.models.generate import DecoderState, TokenDecoder
from audiocraft.models.windows import SongDecoder
from audiocraft.modules.sampling import SamplingParams

MODELS: list[dict[str, tp.Any]] = [
    {},
    {"past_context": 7, "positional_embedding": "sin_rope"},
    {"dim": 640},
    {"kv_repeat": 2},
    {"qk_layer_norm": True, "layer_scale": 0.5},
]
KNOBS = [
    SamplingParams(top_k=20),
    SamplingParams(top_p=0.9, min_p=0.02, cool=0.9, repetition=3.0),
    SamplingParams(use_sampling=False),
]


class Graph(TorchDispatchMode):
    """Runs what it records, as a CPU must, but undoes at the end what was written in place."""

    recorded = 0

    def capture_begin(self, pool: object, capture_error_mode: str) -> None:
        assert capture_error_mode == "thread_local", "another thread's allocation would end the recording"
        self.calls: list[tuple[tp.Any, ...]] = []
        self.before: list[tuple[Tensor, Tensor]] = []
        self.__enter__()

    def __torch_dispatch__(self, func: tp.Any, types: tp.Any, args: tp.Any = (), kwargs: tp.Any = None) -> tp.Any:
        for argument, value in zip(func._schema.arguments, args):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self.before.append((value, value.clone()))
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def capture_end(self) -> None:
        self.__exit__(None, None, None)
        Graph.recorded += 1
        for tensor, value in reversed(self.before):
            tensor.copy_(value)

    def replay(self) -> None:
        for func, args, kwargs, out in self.calls:
            for kept, new in zip(tree_leaves(out), tree_leaves(func(*args, **kwargs))):
                if isinstance(kept, Tensor) and kept.data_ptr() != new.data_ptr():
                    kept.copy_(new)


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that records, with short spans so that there are several."""
    stand_in(monkeypatch, Graph)
    monkeypatch.setattr(generate, "graphs_wanted", lambda asked, device: bool(asked))
    monkeypatch.setattr(generate, "_SPAN_STEPS", 8)
    monkeypatch.setattr(Graph, "recorded", 0)


def play(decoder: TokenDecoder, state: DecoderState, until: int | None = None) -> None:
    while state.step < (state.num_steps if until is None else until):
        decoder.step(state)


@pytest.mark.parametrize("params", KNOBS)
@pytest.mark.parametrize("options", MODELS)
def test_played_back_steps_draw_what_run_steps_draw(options: dict[str, tp.Any], params: SamplingParams) -> None:
    playing = FastLM(tiny_lm(**options), "float32")
    prompt = torch.randint(50, (2, 4, 3), generator=torch.Generator().manual_seed(1))
    out = []
    for graphs_on in (False, True):
        decoder = TokenDecoder(playing, params, graphs=graphs_on, spans=True)
        state = decoder.start(prompt, frames=24, seed=4)
        play(decoder, state, until=12)
        copies = [state.take([1, 0]), state.clone(), DecoderState.from_dict(state.to_dict())]
        for each in (state, *copies):
            play(decoder, each)
        assert sum(isinstance(graph, Graph) for graph in state.graphs.values()) == (4 if graphs_on else 0)
        out.append([decoder.codes(each) for each in (state, *copies)])
    for run, played in zip(*out):
        assert torch.equal(run, played)
    assert torch.equal(out[0][0], out[0][2]) and torch.equal(out[0][0], out[0][3])


def song(
    playing: FastLM, graphs_on: bool, total: int, seed: int = 3, clips: int = 2
) -> tuple[Tensor, TokenDecoder, tp.Any]:
    """Codes of a piece of windows of 12 frames, each adding 5."""
    decoder = TokenDecoder(playing, SamplingParams(), graphs=graphs_on, spans=True)
    songs = SongDecoder(decoder, window=12, stride=5)
    state = songs.start(None, (), clips, total, seed=seed)
    parts = [songs.read(state, total) for _ in range(1 + -(-(total - 12) // 5))]
    assert state.done == total
    return torch.cat(parts, dim=-1), decoder, state


def test_windows_of_one_length_share_their_graphs() -> None:
    playing = FastLM(tiny_lm(), "float32")
    codes, _, state = song(playing, True, total=27)
    assert state.index == 3
    assert Graph.recorded == 2, "one for each span of a window"
    assert torch.equal(codes, song(playing, False, total=27)[0])


def test_the_next_batch_of_a_shape_is_not_recorded_again() -> None:
    playing = FastLM(tiny_lm(), "float32")
    expected = [song(playing, False, total=12, seed=seed)[0] for seed in (3, 4)]
    codes, decoder, state = song(playing, True, total=12, seed=3)
    assert torch.equal(codes, expected[0])
    kept = state.window.clone()
    saved = state.window.to_dict()
    state.window.branches[0].cache.values.fill_(float("nan"))
    decoder.retire(state.window)
    recorded = Graph.recorded
    codes, _, other = song(playing, True, total=12, seed=4)  # what was no number is no more
    assert torch.equal(codes, expected[1]) and Graph.recorded == recorded
    assert other.window is state.window
    # What was copied or saved before is not overwritten.
    for name in ("sequence", "uniforms", "drawn"):
        assert torch.equal(getattr(kept, name), saved[name])
    assert torch.equal(decoder.codes(kept), expected[0])


@pytest.mark.parametrize("change", ["clips", "frames", "greedy", "inference"])
def test_what_does_not_fit_gives_up_its_memory(change: str) -> None:
    playing = FastLM(tiny_lm(), "float32")
    _, decoder, state = song(playing, True, total=12)
    decoder.retire(state.window)
    greedy = TokenDecoder(playing, SamplingParams(use_sampling=False), graphs=True, spans=True)
    with torch.inference_mode(change == "inference"):
        size = {"num_samples": 3 if change == "clips" else 2, "frames": 13 if change == "frames" else 12}
        new = (greedy if change == "greedy" else decoder).start(seed=3, **size)
    assert new is not state.window and new.step == 1 and new.branches
    assert not state.window.branches and not state.window.graphs and not playing.spare


def test_a_large_cache_is_not_kept() -> None:
    playing = FastLM(tiny_lm(), "float32")
    _, decoder, state = song(playing, True, total=12)
    decoder.retire(state.window, most=1)
    assert not playing.spare and not state.window.branches


def test_threads_record_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one stream, what a thread runs while another records would be recorded too."""
    held = []
    begin = Graph.capture_begin
    monkeypatch.setattr(
        Graph, "capture_begin", lambda self, **how: (held.append(graphs._one_at_a_time.locked()), begin(self, **how))
    )
    song(FastLM(tiny_lm(), "float32"), True, total=12)
    assert held == [True, True] and not graphs._one_at_a_time.locked()
    assert graphs._stream(torch.device("cpu")) is graphs._stream(torch.device("cpu"))


def test_weights_are_made_ready_on_the_callers_own_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread has a current stream of its own, which the caller's does not wait for."""
    threads: set[int] = set()
    make = fast.make_linear
    monkeypatch.setattr(fast, "make_linear", lambda *args: (threads.add(threading.get_ident()), make(*args))[1])
    FastLM(tiny_lm(), "bfloat16")
    assert threads == {threading.get_ident()}
