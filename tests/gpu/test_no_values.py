"""What runs on a GPU, run on one without values: devices are not mixed, no step waits for it or changes its shapes."""

import importlib
import typing as tp
from contextlib import nullcontext

import pytest
import torch
from no_values import GPU, Watch, move
from tiny import tiny_lm
from torch._subclasses.fake_tensor import FakeTensorMode

from audiocraft.models.fast import FastLM
from audiocraft.models.generate import TokenDecoder
from audiocraft.modules.sampling import SamplingParams
from audiocraft.utils.segments import AudioMeta, SegmentInfo

FRAMES = 24
MODELS: list[dict[str, tp.Any]] = [
    {},
    {"positional_embedding": "sin_rope", "past_context": 7},
    {"dim": 640, "num_heads": 2},
    {"kv_repeat": 2, "layer_scale": 0.5},
    {"qk_layer_norm": True, "norm_first": False},
]
KNOBS = [
    SamplingParams(),
    SamplingParams(use_sampling=False),
    SamplingParams(top_p=0.9, min_p=0.02, cool=0.9, repetition=3.0),
]


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what torch does not offer on this device: mixed precision, which changes no device, and the one kernel of
    AdamW."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())
    adam = importlib.import_module("torch.optim.adam")
    monkeypatch.setattr(adam, "_device_dtype_check_for_fused", lambda *args, **kwargs: None)


def no_values() -> FakeTensorMode:
    return FakeTensorMode(allow_non_fake_inputs=True)


@pytest.mark.parametrize("params", KNOBS)
@pytest.mark.parametrize("options", MODELS)
def test_a_step_of_the_decoder(options: dict[str, tp.Any], params: SamplingParams) -> None:
    lm = tiny_lm(**options)
    lm.pattern_provider.get_pattern(FRAMES).step_of  # noqa: B018  made from values, while there are some
    with no_values():
        decoder = TokenDecoder(FastLM(move(lm), "bfloat16"), params, graphs=False, spans=True)
        start = decoder.start(num_samples=2, frames=FRAMES, seed=0)
        made = []
        for state in (start, start.take([1, 0]), start.clone()):
            for _ in range(2):
                with Watch() as watch:
                    decoder.step(state)
                assert not watch.uploads
                made.append(watch.made)
            assert state.sequence.device == GPU
    assert len(made[0]) > 50
    assert all(step == made[0] for step in made), "steps of one span differ in what they allocate"


def infos(frames: int, rate: int, clips: int) -> list[SegmentInfo]:
    return [SegmentInfo(AudioMeta("a.wav", 9.0, rate), 0.0, frames - 9 * i, frames, rate, 1) for i in range(clips)]
