"""MusicGen: loading, settings, seeds, windows, prompts, and codecs that do not match."""

import copy
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from audiocraft.errors import UserError
from audiocraft.models import MusicGen, builders, loaders
from audiocraft.models.genmodel import count_frames


@pytest.fixture(scope="module")
def debug() -> MusicGen:
    torch.manual_seed(0)
    model = MusicGen.get_pretrained("debug", device="cpu")
    model.max_duration = 2.0
    return model


def tokens(model: MusicGen, num: int, seed: Any = 0) -> torch.Tensor:
    wav, codes = model.generate_unconditional(num, return_tokens=True, seed=seed)
    assert wav.shape == (num, 1, codes.shape[-1] * model.compression_model.hop_length)
    return codes


def test_folder_of_the_peer_without_conditioner(model_folder: Path) -> None:
    model = MusicGen.get_pretrained(str(model_folder), device="cpu")
    model.set_generation_params(duration=0.5)
    assert (model.sample_rate, model.frame_rate, model.audio_channels) == (32000, 50, 1)
    assert model.max_duration == 30
    assert tokens(model, 2).shape == (2, 4, 25)
    assert model.files["model"] == str(model_folder / "state_dict.bin")


@pytest.mark.parametrize("by", ["signature", "prefix", "folder"])
def test_run_plays_without_export(run_folder: Path, model_folder: Path, by: str) -> None:
    name = {"signature": "cafe0123", "prefix": "//sig/cafe0123", "folder": str(run_folder)}[by]
    run, exported = MusicGen.get_pretrained(name, "cpu"), MusicGen.get_pretrained(model_folder, "cpu")
    assert run.max_duration == 2  # the run's segment
    for model in (run, exported):
        model.set_generation_params(duration=0.5)
    assert torch.equal(tokens(run, 1), tokens(exported, 1))


def test_seeds(debug: MusicGen) -> None:
    debug.set_generation_params(duration=1.0)
    three = tokens(debug, 3, seed=5)
    assert torch.equal(three, tokens(debug, 3, seed=5))
    assert torch.equal(three[2:], tokens(debug, 1, seed=7))
    assert not torch.equal(three[0], three[1])
    torch.manual_seed(3)
    drawn = tokens(debug, 1, seed=None)
    assert not torch.equal(drawn, tokens(debug, 1, seed=None))
    torch.manual_seed(3)
    assert torch.equal(drawn, tokens(debug, 1, seed=None))


def test_longer_than_the_reach(debug: MusicGen) -> None:
    """Each window continues the last one, draws new numbers, and the first equals a short generation."""
    debug.set_generation_params(duration=2.0)
    one_window = tokens(debug, 2)
    debug.set_generation_params(duration=5.5, extend_stride=1.0)
    long = tokens(debug, 2)
    assert long.shape[-1] == count_frames(5.5, debug.frame_rate)
    assert torch.equal(long[..., : one_window.shape[-1]], one_window)
    window = one_window.shape[-1]
    assert not torch.equal(long[..., window : window + 20], one_window[..., :20])
    # Clips keep their seeds in later windows too.
    assert torch.equal(tokens(debug, 1, seed=1), long[1:])
    # A stride that does not fit into the reach falls back to a part of it.
    debug.set_generation_params(duration=5.5, extend_stride=18)
    assert tokens(debug, 1).shape == long[:1].shape


@pytest.mark.parametrize("seed", [np.int64(5), np.uint8(5), torch.tensor(5), np.array(5), 5.0, torch.tensor([5.0])])
def test_seeds_of_other_types(debug: MusicGen, seed: object) -> None:
    debug.set_generation_params(duration=0.2)
    assert torch.equal(tokens(debug, 2, seed=seed), tokens(debug, 2, seed=5))
    _, state = debug.open_stream(seed=seed)
    again = state.take([0, 0], seed=seed)
    assert state.song.seeds == [5] and again.song.seeds == [5, 6]
    assert {type(each) for each in again.song.seeds} == {int}


@pytest.mark.parametrize("seed", [5.5, float("nan"), "5", torch.tensor([1, 2]), np.array([1.0, 2.0]), [5]])
def test_what_is_no_seed_is_refused(debug: MusicGen, seed: object) -> None:
    debug.set_generation_params(duration=0.2)
    with pytest.raises(UserError, match="a seed is a whole number"):
        debug.generate_unconditional(1, seed=seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("repetition", [0.0, 5.0])
def test_windows_see_the_overlap(debug: MusicGen, repetition: float) -> None:
    """The second window is what the language model makes of the first one's tail."""
    debug.set_generation_params(duration=3.0, extend_stride=1.0, use_sampling=False, repetition=repetition)
    long = tokens(debug, 1)
    window, stride = count_frames(2.0, debug.frame_rate), count_frames(1.0, debug.frame_rate)
    greedy = {"use_sampling": False, "repetition": repetition}
    again = debug.lm.generate(long[..., stride:window], max_gen_len=window, **greedy)  # type: ignore[arg-type]
    assert torch.equal(again, long[..., stride:])


def test_continuation(debug: MusicGen) -> None:
    debug.set_generation_params(duration=1.0)
    prompt = torch.randn(1, 1, 8000) * 0.1
    wav, codes = debug.generate_continuation(prompt, 16000, return_tokens=True, seed=0)
    encoded, _ = debug.compression_model.encode(
        torch.nn.functional.pad(prompt, (0, 0)) if debug.sample_rate == 16000 else _resampled(prompt, 16000, debug)
    )
    assert torch.equal(codes[..., : encoded.shape[-1]], encoded)
    assert codes.shape[-1] == count_frames(1.0, debug.frame_rate)
    # [C, T] is one clip; more than the model's reach is continued from its tail.
    debug.set_generation_params(duration=4.0, extend_stride=1.0)
    long_prompt = torch.randn(1, 3 * debug.sample_rate) * 0.1
    wav, codes = debug.generate_continuation(long_prompt, debug.sample_rate, return_tokens=True, seed=0)
    assert wav.shape[0] == 1 and codes.shape[-1] == count_frames(4.0, debug.frame_rate)


def test_prompts_of_other_types(debug: MusicGen) -> None:
    debug.set_generation_params(duration=0.5)
    wav = (torch.randn(1, 2, 4000) * 0.1).clamp(-1, 1).half().float()

    def codes(prompt: Any, rate: Any = 16000) -> torch.Tensor:
        return debug.generate_continuation(prompt, rate, return_tokens=True, seed=0)[1]

    expected = codes(wav)
    for same in (wav.double(), wav.half(), wav.numpy(), wav.double().numpy(), wav[0], wav[0].numpy(), wav.tolist()):
        assert torch.equal(codes(same), expected)
    assert torch.equal(codes(wav.numpy()[..., ::-1]), codes(wav.flip(-1)))  # negative strides
    assert torch.equal(codes(wav, np.float64(16000)), expected)
    mono = (wav[:, :1] * 2**15).round()
    for integers in (mono.short(), mono.short().numpy(), (mono * 2**16).int()):
        assert torch.equal(codes(integers), codes(mono / 2**15))
    assert torch.equal(codes(mono[0, 0] / 2**15), codes(mono / 2**15))  # [T]
    streamer, state = debug.open_stream(prompt=mono.short().numpy()[0, 0], prompt_sample_rate=16000, seed=0)
    assert torch.equal(state.ahead, codes(mono / 2**15)[..., : state.ahead.shape[-1]]) and state.ahead.shape[-1]
    assert streamer.read(state).shape[:2] == (1, 1)


@pytest.mark.parametrize(
    ("prompt", "rate", "says"),
    [
        (torch.zeros(1, 1, 3200), 0, "a sample rate of 0 Hz"),
        (torch.zeros(1, 1, 3200), -16000, "a sample rate of -16000 Hz"),
        (torch.zeros(1, 1, 3200), float("nan"), "a sample rate of nan Hz"),
        (torch.zeros(3200, 2), 16000, r"looks like \[T, C\]"),
        (torch.zeros(1, 1, 1, 3200), 16000, r"must be \[B, C, T\]"),
        (torch.tensor(0.5), 16000, r"must be \[B, C, T\]"),
        (torch.zeros(1, 1, 3200, dtype=torch.int64), 16000, "no wave .*int64"),
        (np.zeros((1, 3200), dtype=complex), 16000, "no wave .*complex"),
        ("a song", 16000, "no wave"),
        (torch.full((1, 1, 3200), float("nan")), 16000, "NaN"),
    ],
)
def test_what_is_no_prompt_is_refused(debug: MusicGen, prompt: Any, rate: Any, says: str) -> None:
    debug.set_generation_params(duration=0.5)
    with pytest.raises(UserError, match=says) as error:
        debug.generate_continuation(prompt, rate, seed=0)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=says):
        debug.open_stream(prompt=prompt, prompt_sample_rate=rate)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_model_and_its_parts_can_be_copied_and_pickled(precision: str) -> None:
    model = MusicGen.get_pretrained("debug", device="cpu", precision=precision)
    model.set_generation_params(duration=0.2)
    expected = tokens(model, 1)  # what playing made of the weights is there now
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), _saved(model)):
        assert copied.precision == precision
        assert torch.equal(tokens(copied, 1), expected)
    for part in (model.lm, model.compression_model, model.lm.condition_provider, model.lm.pattern_provider):
        for copied in (copy.deepcopy(part), pickle.loads(pickle.dumps(part)), _saved(part)):
            assert type(copied) is type(part)
    layout = model.lm.pattern_provider.get_pattern(3).layout
    assert _saved(model.lm.pattern_provider).get_pattern(3).layout == layout


def _saved(thing: Any) -> Any:
    """Written and read by torch."""
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return torch.load(file, weights_only=False)  # made a line above


FORK = """
import os, sys, torch
from audiocraft.errors import UserError
from audiocraft.models import MusicGen

torch.set_num_threads(2)
model = MusicGen.get_pretrained("debug", device="cpu")
model.set_generation_params(duration=0.2)
print(model.generate_unconditional(1, seed=1).shape, flush=True)
if os.fork() == 0:
    for threads in (2, 1):
        torch.set_num_threads(threads)
        try:
            print(model.generate_unconditional(1, seed=1).shape)
        except UserError as error:
            print(error)
    sys.stdout.flush()
    os._exit(0)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_generating_in_a_forked_child_is_refused_where_it_would_hang() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=240)
    whole, refused, single, code = done.stdout.splitlines()
    assert "forked process" in refused and "spawn" in refused
    assert whole == single and code == "0"


def test_a_prompt_of_one_sample_at_a_higher_rate(debug: MusicGen) -> None:
    """At the model's rate nothing would be left of it."""
    debug.set_generation_params(duration=0.2)
    wav, codes = debug.generate_continuation(torch.ones(1, 1), 44100, return_tokens=True, seed=0)
    assert codes.shape[-1] == count_frames(0.2, debug.frame_rate) and wav.isfinite().all()


def _resampled(wav: torch.Tensor, rate: int, model: MusicGen) -> torch.Tensor:
    from audiocraft.data.audio_utils import convert_audio

    return convert_audio(wav, rate, model.sample_rate, model.audio_channels)


def test_progress(debug: MusicGen) -> None:
    seen: list[tuple[int, int]] = []
    debug.set_custom_progress_callback(lambda done, total: seen.append((done, total)))
    debug.set_generation_params(duration=3.0, extend_stride=1.0)
    debug.generate_unconditional(1, progress=True, seed=0)
    total = count_frames(3.0, debug.frame_rate)
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    seen.clear()
    debug.generate_unconditional(1, seed=0)
    assert not seen
    debug.set_custom_progress_callback()


def test_mistakes(debug: MusicGen, model_folder: Path) -> None:
    for wrong in (
        {"temperature": 0.0},
        {"top_k": -1},
        {"top_p": 1.5},
        {"duration": 0.0},
        {"extend_stride": 0.0},
        {"cfg_coef": float("nan")},
        {"cfg_coef": float("inf")},
    ):
        with pytest.raises(UserError):
            debug.set_generation_params(**wrong)
    debug.set_generation_params(duration=1.0)
    with pytest.raises(UserError, match="without text"):
        MusicGen.get_pretrained(model_folder, "cpu").generate(["a song"])
    with pytest.raises(UserError, match="at least 1"):
        debug.generate_unconditional(0)
    with pytest.raises(UserError, match="fills the whole duration"):
        debug.generate_continuation(torch.zeros(1, 1, debug.sample_rate), debug.sample_rate)
    with pytest.raises(UserError, match="some samples"):
        debug.generate_continuation(torch.zeros(1, 1, 0), 32000)
    with pytest.raises(UserError, match="as many of each"):
        debug.generate_continuation(torch.zeros(2, 1, 3200), 32000, [None])
    debug.set_generation_params(duration=0.001)
    with pytest.raises(UserError, match="less than one frame"):
        debug.generate_unconditional(1)


def test_codec_that_does_not_match(model_folder: Path) -> None:
    lm = loaders.load_lm_model(model_folder)
    with pytest.raises(UserError, match="64 codes per codebook, the codec 400"):
        MusicGen("x", builders.get_debug_compression_model(), lm)
    debug_lm = builders.get_debug_lm_model()
    few = builders.get_debug_compression_model()
    few.quantizer.n_q = 4
    debug_lm.n_q = 5
    with pytest.raises(UserError, match="5 codebooks"):
        MusicGen("x", few, debug_lm)
    debug_lm.n_q = 4
    debug_lm.cfg = OmegaConf.create({"sample_rate": 48000})  # type: ignore[assignment]
    with pytest.raises(UserError, match="48000 Hz"):
        MusicGen("x", builders.get_debug_compression_model(), debug_lm)


def test_more_codebooks_than_the_model_knows(model_folder: Path) -> None:
    """A codec with codebooks to spare is used with those that the model speaks."""
    lm = builders.get_debug_lm_model()
    lm.n_q = 2
    codec = builders.get_debug_compression_model()
    assert MusicGen("x", codec, lm).compression_model.num_codebooks == 2


def test_text_model_with_its_t5_beside_it(golden: Path, tmp_path: Path) -> None:
    """Through the public API: guided greedy tokens equal the reference's; no description at all works too."""
    pytest.importorskip("transformers")
    folder = shutil.copytree(golden / "lm_text", tmp_path / "text")
    shutil.copy(golden / "codec_ac" / "compression_state_dict.bin", folder)
    model = MusicGen.get_pretrained(folder, "cpu")
    model.set_generation_params(duration=0.8, use_sampling=False)
    texts = json.loads((folder / "texts.json").read_text())["texts"]
    _, codes = model.generate(texts, return_tokens=True)
    assert torch.equal(codes, load_file(folder / "io.safetensors")["gen_cfg"])
    _, codes = model.generate_unconditional(2, return_tokens=True)
    assert torch.equal(codes, load_file(folder / "more.safetensors")["gen_all_none"])


def test_what_is_left_out_says_so() -> None:
    model = MusicGen.get_pretrained("debug", "cpu")
    with pytest.raises(AttributeError, match=r"MusicGen\.generate_with_chroma .*left out.*docs/COMPATIBILITY\.md"):
        model.generate_with_chroma(["a"], torch.zeros(1, 1, 100), 32000)  # type: ignore[attr-defined]
    assert not hasattr(model, "generate_with_chroma") and not hasattr(model, "something")
    for name in ("melody", "facebook/musicgen-melody", "facebook/musicgen-stereo-small", "facebook/audiogen-medium"):
        with pytest.raises(UserError, match=r"left out.*docs/COMPATIBILITY\.md"):
            MusicGen.get_pretrained(name)


def test_the_debug_model_takes_texts_and_prompts() -> None:
    """What a caller tries the API with: random, but of the right shapes, and text makes a difference."""
    torch.manual_seed(0)
    model = MusicGen.get_pretrained("debug", "cpu")
    assert (model.frame_rate, model.sample_rate, model.audio_channels, model.max_duration) == (25, 32000, 1, 30)
    model.set_generation_params(duration=0.8, extend_stride=0.4)
    texts = ["slow strings", "fast drums"]
    wav, codes = model.generate(texts, return_tokens=True, seed=1)
    assert wav.shape == (2, 1, 25600) and codes.shape == (2, 4, 20)
    assert not torch.equal(codes, model.generate(["loud", "quiet birds"], return_tokens=True, seed=1)[1])
    assert torch.equal(codes, model.generate(texts, return_tokens=True, seed=1)[1])
    noise = torch.randn(2, 1, 9600)
    for descriptions in (None, texts, [None, "drums"]):
        assert model.generate_continuation(noise, 32000, descriptions).shape == (2, 1, 25600)
    for error in (UserError, AssertionError):
        with pytest.raises(error, match="as many of each"):
            model.generate_continuation(noise, 32000, [*texts, "one too many"])
    model.max_duration = 0.6
    model.set_generation_params(duration=1.0, extend_stride=0.4)
    assert model.generate(texts).shape == model.generate_unconditional(2).shape == (2, 1, 32000)
