"""What runs on a GPU, run on one without values: devices are not mixed, no step waits for it or changes its shapes."""

import importlib
import typing as tp
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from no_values import GPU, Memory, Watch, move
from tiny import tiny_encodec, tiny_lm
from tiny_lm import build, write_material
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from audiocraft.models import builders, encodec
from audiocraft.models.encodec import EncodecModel
from audiocraft.models.fast import FastLM
from audiocraft.models.generate import _MARGIN, TokenDecoder
from audiocraft.models.spectral import SpectralModel
from audiocraft.modules import partials
from audiocraft.modules.sampling import SamplingParams
from audiocraft.solvers.builders import get_solver
from audiocraft.solvers.loop import Loop
from audiocraft.train import main as dora_main

FRAMES = 24
MODELS: list[dict[str, tp.Any]] = [
    {},
    {"positional_embedding": "sin_rope", "past_context": 7},
    {"dim": 640, "num_heads": 2},
    {"kv_repeat": 2, "layer_scale": 0.5},
    {"qk_layer_norm": True, "norm_first": False},
]
KNOBS = [
    SamplingParams(top_k=20),
    SamplingParams(use_sampling=False),
    SamplingParams(top_p=0.9, min_p=0.02, cool=0.9, repetition=3.0),
]


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what torch does not offer on this device: mixed precision, which changes no device, the one kernel of AdamW,
    and random states, which are kept on the host."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())
    random = {"get_rng_state": lambda: None, "set_rng_state": lambda state: None, "device": lambda at: nullcontext()}
    monkeypatch.setattr(torch, GPU.type, SimpleNamespace(**random), raising=False)
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


def test_only_what_plays_is_on_the_gpu() -> None:
    lm = tiny_lm(positional_embedding="sin_rope", qk_layer_norm=True)
    lm.pattern_provider.get_pattern(FRAMES).step_of  # noqa: B018  made from values, while there are some
    with no_values():
        playing = FastLM(lm, "bfloat16", GPU)
        decoder = TokenDecoder(playing, SamplingParams(), graphs=False, spans=True)
        state = decoder.start(num_samples=2, frames=FRAMES, seed=0)
        with Watch():
            decoder.step(state)
    assert state.branches[0].cache.keys.device == playing.table.device == GPU
    assert {(p.device, p.dtype) for p in playing.transformer.parameters()} == {(GPU, torch.bfloat16)}
    assert {p.device.type for p in lm.parameters()} == {"cpu"}


def watched_steps(solver: Loop, batch: tp.Any) -> list[Watch]:
    """Steps of training after the first, which makes what the optimizer keeps."""
    solver._training = True
    solver.model.train()
    watches = []
    for idx in range(3):
        with Watch(waiting_allowed=idx == 0) as watch:
            metrics = solver.run_step(idx, batch, {})
        watches.append(watch)
    assert {x.device for x in metrics.values() if isinstance(x, torch.Tensor)} == {GPU}
    return watches[1:]


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["tokens.cache=off"],
        ["optim.optimizer=muon", "tokens.corruption=0.3", "tokens.loss_share=0.5"],
        ["transformer_lm.checkpointing=torch", "tokens.padding_with_special_token=true"],
    ],
)
def test_a_training_step_of_a_language_model(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIOCRAFT_DORA_DIR", str(tmp_path / "outputs"))
    solver = build(write_material(tmp_path), "optim.ema.updates=1", *overrides)
    batch = next(iter(solver.dataloaders["train"]))
    solver.model.pattern_provider.get_pattern(25).step_of  # noqa: B018  made from values, while there are some
    silence = solver._silence
    with no_values():
        solver.device = GPU
        solver._silence = silence.to(GPU)
        move(solver.model, [solver.optimizer])
        move(solver.compression_model)
        assert solver.ema is not None
        solver.ema.device = GPU
        solver.ema.reset()
        first, second = watched_steps(solver, batch)
    assert first.made == second.made and len(first.made) > 100
    # The batch, what of it is sound, and nothing else.
    assert first.uploads == second.uploads == 2


def codec_solver(material: Path, *overrides: str) -> tp.Any:
    """A codec's solver as the entry point builds it, not yet run, and a batch for it."""
    sources = [f"datasource.{split}={material}" for split in ("train", "valid", "evaluate", "generate")]
    xp = dora_main.make_xp([*sources, "dataset.batch_size=2", "logging.progress=off", *overrides])
    dora_main.init_xp(xp)
    with xp.enter():
        solver = get_solver(xp.cfg)
    return solver, next(iter(solver.dataloaders["train"]))


ENCODEC = ("solver=compression/debug", "sample_rate=16000", "dataset.segment_duration=0.25", "seanet.dimension=16")
ENCODEC += ("seanet.ratios=[5,4,4,4]", "rvq.bins=32", "rvq.q_dropout=false", "optim.ema.use=true")


@pytest.mark.parametrize("adversaries", [False, True])
def test_a_training_step_of_an_encodec(adversaries: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOCRAFT_DORA_DIR", str(tmp_path / "outputs"))
    game = ["losses.adv=4", "losses.feat=4", "adversarial.start=0", "adversarial.every=1"] if adversaries else []
    solver, batch = codec_solver(write_material(tmp_path), *ENCODEC, "optim.ema.updates=1", *game)
    for layer in solver.model.quantizer.vq.layers:
        layer._codebook.inited.fill_(1)
        layer._codebook._started = True
    with no_values():
        solver.device = GPU
        move(solver.model, [solver.optimizer])
        move(solver.losses)
        for loss in solver.adv_losses.values():
            move(loss.adversary, [loss.optimizer])
        solver.ema.device = GPU
        solver.ema.reset()
        first, second = watched_steps(solver, batch)
    assert first.made == second.made and len(first.made) > 100
    assert first.uploads == second.uploads == 2
    assert len(solver.adv_losses) == adversaries


def test_a_training_step_of_a_spectral_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOCRAFT_DORA_DIR", str(tmp_path / "outputs"))
    solver, batch = codec_solver(
        write_material(tmp_path), "solver=compression/spectral_32khz", "dataset.segment_duration=1"
    )
    for layer in solver.model.quantizer.rvq.vq.layers:
        layer._codebook._started = True
    with no_values():
        solver.device = GPU
        move(solver.model)
        first, second = watched_steps(solver, batch)
    assert first.made == second.made and len(first.made) > 20
    assert first.uploads == second.uploads == 2


def test_a_codec_on_the_gpu() -> None:
    """Whole and in blocks; looking at what came in is the one thing that waits."""
    codec = tiny_encodec()
    with no_values(), torch.no_grad():
        move(codec)
        codec.check_values = False
        for seconds in (3, 20):
            with Watch() as watch:
                codes, _ = codec.encode(torch.zeros(2, 1, seconds * codec.sample_rate, device=GPU))
                wav = codec.stream_decoder().decode(codes)
                again = codec.decoder(codec.decode_latent(codes))
            assert wav.shape == again.shape == (2, 1, seconds * codec.sample_rate)
            assert wav.device == again.device == codes.device == GPU
            assert not watch.uploads


def test_many_clips_are_decoded_in_what_is_left_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The full codec: however many clips were admitted, their sound comes on top of a bounded amount."""
    codec = builders.get_compression_model(dora_main.make_xp(["solver=compression/encodec_musicgen_32khz"]).cfg).eval()
    monkeypatch.setitem(encodec._ELEMENTS_PER_BLOCK, GPU.type, encodec._ELEMENTS_PER_BLOCK["cuda"])
    with no_values(), torch.no_grad():
        move(codec)
        assert isinstance(codec, EncodecModel)
        for clips, seconds in ((1, 6), (9, 1)):
            codes = torch.zeros(clips, codec.num_codebooks, seconds * 50, dtype=torch.long, device=GPU)
            with Memory() as memory:
                wav = codec.stream_decoder().decode(codes)
            assert wav.shape == (clips, 1, seconds * codec.sample_rate)
            assert memory.now == wav.nbytes
            # As much again may go to what kernels work in.
            assert memory.peak - wav.nbytes < _MARGIN / 4


def test_a_codec_on_the_cpu_beside_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on mps."""
    monkeypatch.setenv("AUDIOCRAFT_DORA_DIR", str(tmp_path / "outputs"))
    solver = build(write_material(tmp_path), "tokens.cache=off")
    wave, infos = next(iter(solver.dataloaders["train"]))
    silence = solver._silence
    with no_values(), torch.no_grad():
        solver.device = GPU
        solver._silence = silence.to(GPU)
        codec = solver.compression_model
        monkeypatch.setattr(codec, "check_codes", lambda codes: None)
        codes, mask = solver.get_tokens((wave, infos))
        assert codes.device == mask.device == GPU
        assert solver._decode(codes).device.type == "cpu"
        assert codec.stream_decoder().decode(codes).device == GPU


def test_the_spectral_codec_on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Partials are found, and sound is made, by numpy: so much goes to the host, and comes back."""
    cfg = dora_main.make_xp(["solver=compression/spectral_32khz"]).cfg
    codec = builders.get_compression_model(cfg).eval()
    assert isinstance(codec, SpectralModel)
    decoder = codec.stream_decoder()
    asked: list[torch.device] = []

    def numpy(tensor: torch.Tensor) -> np.ndarray:
        asked.append(tensor.device)
        return np.zeros(tuple(tensor.shape), dtype=str(tensor.dtype).removeprefix("torch."))

    monkeypatch.setattr(FakeTensor, "numpy", numpy)
    monkeypatch.setattr(partials, "find_partials", lambda wav: (wav, wav))
    monkeypatch.setattr(partials, "choose_partials", lambda places, wav, _: torch.zeros(len(wav), 50, dtype=torch.long))
    with no_values():
        move(codec)
        codec.check_values = False
        with Watch(waiting_allowed=True):
            codes, _ = codec.encode(torch.zeros(2, 1, codec.sample_rate, device=GPU))
            wav = decoder.decode(codes)
    assert codes.shape == (2, cfg.rvq.n_q + 1, 50) and wav.shape == (2, 1, codec.sample_rate)
    assert codes.device == wav.device == GPU
    assert {device.type for device in asked} == {"cpu"}
