"""Pieces longer than the model's reach, and sound while it is made: equal to the offline result, in bounded memory."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tiny import tiny_encodec

from audiocraft.errors import UserError
from audiocraft.models import MusicGen, builders
from audiocraft.models.encodec import EncodecModel
from audiocraft.models.windows import SongState


def tiny_codec(**kwargs: Any) -> EncodecModel:
    """50 frames/s at 3200 Hz, with an LSTM and weight norm."""
    settings = {"dimension": 16, "n_filters": 4, "ratios": [8, 4, 2], "lstm": 2, "norm": "weight_norm", **kwargs}
    return tiny_encodec(3200, n_q=4, bins=400, **settings)


def tiny_model(**kwargs: Any) -> MusicGen:
    torch.manual_seed(0)
    model = MusicGen("tiny", tiny_codec(**kwargs), builders.get_debug_lm_model(), max_duration=1.0)
    model.set_generation_params(duration=3.3, top_k=50)
    return model


@pytest.fixture(scope="module")
def model() -> MusicGen:
    return tiny_model()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
def test_stream_equals_the_offline_result(causal: bool, pad_mode: str) -> None:
    """Over several windows, with chunks of any length; and that is what the codec itself makes of the codes."""
    model = tiny_model(causal=causal, pad_mode=pad_mode)
    wav, codes = model.generate_unconditional(2, return_tokens=True, seed=4)
    assert codes.shape == (2, 4, 165)
    with torch.no_grad():
        decoder = model.compression_model.decoder
        torch.testing.assert_close(wav, decoder(model.compression_model.decode_latent(codes)), atol=1e-5, rtol=0)
    for chunk in (0.02, 0.3, 10.0):
        chunks = list(model.stream(2, chunk=chunk, seed=4))
        assert all(part.shape[-1] > 0 for part in chunks)
        torch.testing.assert_close(torch.cat(chunks, -1), wav, atol=1e-5, rtol=0)


def test_a_model_made_in_inference_mode_plays() -> None:
    """Codec and all."""
    with torch.inference_mode():
        model = tiny_model()
    wav = model.generate_unconditional(1, seed=4)
    assert torch.equal(wav, tiny_model().generate_unconditional(1, seed=4))
    torch.testing.assert_close(torch.cat(list(model.stream(1, seed=4)), -1), wav, atol=1e-5, rtol=0)


def test_sound_comes_early(model: MusicGen) -> None:
    drawn: list[int] = []
    model.set_custom_progress_callback(lambda done, total: drawn.append(done))
    chunks = model.stream(1, chunk=1.0, progress=True, seed=0)
    assert not drawn, "nothing is made before it is asked for"
    first = next(chunks)
    # A quarter of a second of frames were drawn, and all of their sound but what the codec looks ahead is out.
    assert drawn[-1] == 12 and 5 * 64 <= first.shape[-1] <= 12 * 64
    sizes = [part.shape[-1] for part in chunks]
    assert max(sizes) <= 50 * 64 + 12 * 64
    assert drawn[-1] == 165 and drawn == sorted(drawn)
    model.set_custom_progress_callback()


def test_stream_continues_a_prompt(model: MusicGen) -> None:
    for seconds in (0.5, 2.2):  # within the model's reach and beyond it
        prompt = torch.randn(2, 1, int(3200 * seconds)) * 0.1
        wav = model.generate_continuation(prompt, 3200, seed=2)
        chunks = list(model.stream(prompt=prompt, prompt_sample_rate=3200, chunk=0.5, seed=2))
        torch.testing.assert_close(torch.cat(chunks, -1), wav, atol=1e-5, rtol=0)


def test_state_is_saved_cloned_and_resumed_bit_exactly(model: MusicGen) -> None:
    """In the middle of the second window, codec and all, through a file that holds plain values."""
    streamer, state = model.open_stream(2, chunk=0.3, seed=6)
    heard = [streamer.read(state) for _ in range(5)]
    assert state.song.index == 1
    buffer = io.BytesIO()
    torch.save(state.to_dict(), buffer)
    copy = state.clone()
    rest = torch.cat(list(streamer.chunks(state)), -1)
    buffer.seek(0)
    resumed = streamer.restore(torch.load(buffer, weights_only=True))
    for other in (copy, resumed):
        assert torch.equal(torch.cat(list(streamer.chunks(other)), -1), rest)
    whole = model.generate_unconditional(2, seed=6)
    torch.testing.assert_close(torch.cat([*heard, rest], -1), whole, atol=1e-5, rtol=0)
    assert streamer.read(state).shape == (2, 1, 0), "there is sound after the end"


def test_many_takes_branch_from_one_moment(model: MusicGen) -> None:
    streamer, state = model.open_stream(1, chunk=0.3, seed=6)
    for _ in range(3):
        streamer.read(state)
    rest = torch.cat(list(streamer.chunks(state.clone())), -1)
    takes = torch.cat(list(streamer.chunks(state.take([0, 0, 0], seed=30))), -1)
    again = torch.cat(list(streamer.chunks(state.take([0], seed=31))), -1)
    torch.testing.assert_close(takes[1:2], again, atol=1e-5, rtol=0)
    assert all((takes[i] - takes[j]).abs().max() > 1e-3 for i, j in ((0, 1), (0, 2), (1, 2)))
    same = torch.cat(list(streamer.chunks(state.take([0, 0]))), -1)
    torch.testing.assert_close(same, rest.expand(2, -1, -1), atol=1e-5, rtol=0)


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """All tensors that an object holds."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from (tensor for part in value.values() for tensor in tensors(part))
    elif isinstance(value, list | tuple):
        yield from (tensor for part in value for tensor in tensors(part))
    elif hasattr(value, "__dict__"):
        yield from tensors(vars(value))


def test_state_does_not_grow_with_the_piece(model: MusicGen) -> None:
    """What is held between chunks is as large after twenty windows as after two, and so is what is read at once."""
    model.set_generation_params(duration=13.0)
    streamer, state = model.open_stream(1, chunk=0.5, seed=1)
    sizes: dict[int, int] = {}
    lengths = set()
    while not state.finished:
        lengths.add(streamer.read(state).shape[-1])
        held = sum(t.untyped_storage().nbytes() for t in tensors(state))
        sizes[state.song.index] = max(sizes.get(state.song.index, 0), held)
    model.set_generation_params(duration=3.3, top_k=50)
    assert max(sizes) > 15
    assert max(sizes.values()) <= 1.2 * max(sizes[1], sizes[2])
    assert max(lengths) <= 64 * 50


def test_a_song_saves_its_place(model: MusicGen) -> None:
    songs, state = model._start_song([None], None, seed=8)
    start = songs.read(state, 70)
    assert start.shape[-1] == 50, "what is read ends with the window"
    other = SongState.from_dict(state.to_dict())
    assert torch.equal(songs.read(state, 7), songs.read(other, 7))
    assert (state.done, state.taken, state.index) == (57, 27, 1)


def test_stride_of_further_windows(model: MusicGen) -> None:
    """The smaller of 18 s and 0.6 of the window, unless another is given that fits."""
    cases = [(None, 50, 30), (None, 1500, 900), (None, 2000, 900), (0.4, 50, 20), (18, 50, 30), (18.0, 1250, 900)]
    for stride, window, expected in cases:
        model.set_generation_params(duration=3.3, top_k=50, extend_stride=stride)
        assert model.stride_frames(window) == expected
    model.set_generation_params(duration=3.3, top_k=50)


def test_weights_that_change_are_heard() -> None:
    model = tiny_model()
    before = model.generate_unconditional(1, seed=0)
    with torch.no_grad():
        last = model.compression_model.decoder.model[-1].conv.conv
        last.weight_g.mul_(0.5)
        last.bias.mul_(0.5)
    torch.testing.assert_close(model.generate_unconditional(1, seed=0), before / 2, atol=1e-5, rtol=0)
    model.compression_model = tiny_model().compression_model
    torch.testing.assert_close(model.generate_unconditional(1, seed=0), before, atol=1e-5, rtol=0)


def test_precision_of_the_whole(model: MusicGen) -> None:
    assert model.precision == "float32"
    other = tiny_model()
    other.set_precision("auto")
    wav = other.generate_unconditional(1, seed=0)
    assert wav.dtype == torch.float32 and wav.shape == (1, 1, 165 * 64) and wav.isfinite().all()
    chunks = torch.cat(list(other.stream(1, seed=0)), -1)
    torch.testing.assert_close(chunks, wav, atol=1e-5, rtol=0)


def test_mistakes(model: MusicGen) -> None:
    with pytest.raises(UserError, match="chunks of 0 s"):
        model.stream(chunk=0)
    with pytest.raises(UserError, match="2 prompts came with 1"):
        model.stream(descriptions=[None], prompt=torch.zeros(2, 1, 640))
    with pytest.raises(UserError, match="fills the whole duration"):
        model.stream(prompt=torch.zeros(1, 1, 3200 * 4))
    with pytest.raises(UserError, match="more than a day"):
        model.set_generation_params(duration=1e9)
    with pytest.raises(UserError, match="cannot be cut"):
        tiny_model(norm="time_group_norm").stream()
    with pytest.raises(UserError, match="unknown precision"):
        MusicGen.get_pretrained("debug", "cpu", precision="int2")


def test_debug_model_streams() -> None:
    model = MusicGen.get_pretrained("debug", "cpu")
    model.set_generation_params(duration=0.5)
    wav = torch.cat(list(model.stream(seed=1)), -1)
    torch.testing.assert_close(wav, model.generate_unconditional(1, seed=1), atol=1e-5, rtol=0)
