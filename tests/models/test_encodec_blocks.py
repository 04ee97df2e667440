"""Long audio: blocks give what the whole gives, on their own and without holding more than a block."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_encodec

from audiocraft.errors import UserError
from audiocraft.models import encodec
from audiocraft.models.encodec import EncodecModel
from audiocraft.models.loaders import load_compression_model
from audiocraft.modules.chunked import Pieces, StreamState

RATE = 120


def tiny(**kwargs: Any) -> EncodecModel:
    """A codec at 120 Hz, so that blocks of one second and long files are small."""
    return tiny_encodec(RATE, **{"lstm": 1, "norm": "weight_norm", **kwargs})


@pytest.fixture()
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encodec, "_ELEMENTS_PER_BLOCK", {"cpu": 1})


@pytest.mark.parametrize("seconds", [0.05, 1, 7.9, 8.1, 31, 47.3])
@pytest.mark.parametrize("renormalize", [False, True])
def test_long_input_is_coded_in_blocks_and_gives_the_same(
    seconds: float, renormalize: bool, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(channels=2, renormalize=renormalize)
    x = 3 * torch.randn(1, 2, round(seconds * RATE))
    whole = model(x)  # with autograd on: always in one go
    codes, scale = model.encode(x)
    decoded = model.decode(codes, scale)
    lengths: list[int] = []
    monkeypatch.setattr(
        model.quantizer, "encode", lambda z, encode=model.quantizer.encode: (lengths.append(z.shape[-1]), encode(z))[1]
    )
    with torch.no_grad():
        result = model(x)
        block_codes, block_scale = model.encode(x)
        block_decoded = model.decode(codes, scale)
    assert torch.equal(block_codes, codes) and torch.equal(result.codes, codes)
    torch.testing.assert_close(block_scale, scale)
    torch.testing.assert_close(block_decoded, decoded, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(result.x, whole.x, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(result.bandwidth, whole.bandwidth)
    assert float(result.penalty) == 0
    # One second is 20 frames; what padding holds back comes with a later block.
    assert (max(lengths) <= 20 + 8) == (seconds > 8 or seconds < 1.5)


def test_training_and_autograd_see_the_whole(small_blocks: None) -> None:
    model = tiny()
    x = torch.randn(1, 1, 40 * RATE, requires_grad=True)
    model(x).x.sum().backward()
    model.train()
    with torch.no_grad():
        assert "used" in model(x).metrics


def test_norm_over_time_is_never_cut(small_blocks: None) -> None:
    model = tiny(norm="time_group_norm")
    x = torch.randn(1, 1, 40 * RATE)
    whole = model.encode(x)[0]
    with torch.no_grad():
        assert torch.equal(model.encode(x)[0], whole)
    with pytest.raises(UserError, match="weight_norm"):
        next(model.encode_blocks([x]))


@pytest.mark.parametrize("name", ["codec_ac", "codec_ac_causal", "codec_hf"])
@torch.no_grad()
def test_streams_give_the_golden_codes_and_wave(golden: Path, name: str) -> None:
    io = load_file(golden / name / "io.safetensors")
    model = load_compression_model(golden / name)
    assert isinstance(model, EncodecModel)
    for size in (1000, 9999):
        assert torch.equal(torch.cat(list(model.encode_blocks(io["wav"].split(size, -1))), -1), io["codes"])
    decoder = model.stream_decoder()
    for size in (1, 7):
        state, blocks = StreamState(), io["codes"].split(size, -1)
        parts = [decoder.push(state, block, last=i == len(blocks) - 1) for i, block in enumerate(blocks)]
        wav = torch.cat(parts, -1)
        torch.testing.assert_close(wav, io["decoded"], atol=3e-6, rtol=0)


def test_streams_hold_one_block(small_blocks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    assert model.block_samples() == RATE
    seen: list[int] = []
    push = Pieces.push

    def watched(self: Pieces, state: StreamState, wav: torch.Tensor, last: bool = False) -> torch.Tensor:
        seen.append(wav.shape[-1])
        return push(self, state, wav, last)

    monkeypatch.setattr(Pieces, "push", watched)
    x = torch.randn(1, 1, 10 * RATE + 7)
    parts = [x[..., :0], x[..., : 8 * RATE], x[..., 8 * RATE :]]  # blocks larger than the codec's own, and an empty one
    codes = torch.cat(list(model.encode_blocks(parts)), -1)
    assert codes.shape == (1, 3, 202) and max(seen) == RATE and sum(seen) == x.shape[-1]
    assert torch.equal(codes, model.encode(x)[0])


def test_two_streams_at_once() -> None:
    model = tiny()
    decoder = model.stream_decoder()
    codes = [torch.randint(8, (clips, 3, frames)) for clips, frames in ((1, 15), (2, 11))]
    states = [StreamState(), StreamState()]
    halves = [decoder.push(state, one[..., :5]) for state, one in zip(states, codes)]
    for one, state, half in zip(codes, states, halves):
        wav = torch.cat([half, decoder.push(state, one[..., 5:], last=True)], -1)
        torch.testing.assert_close(wav, model.decode(one), atol=1e-5, rtol=0)


def test_streams_name_their_mistakes() -> None:
    model = tiny()
    with pytest.raises(UserError, match="empty"):
        list(model.encode_blocks([]))
    with pytest.raises(UserError, match="samples"):
        list(model.encode_blocks([torch.zeros(1, 2, 10)]))
    with pytest.raises(UserError, match="renormalize"):
        list(tiny(renormalize=True).encode_blocks([torch.zeros(1, 1, 10)]))


def test_blocks_are_coded_in_full_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    seen: list[bool] = []
    push = Pieces.push

    def watched(*arguments: Any) -> torch.Tensor:
        seen.append(torch.backends.cudnn.allow_tf32)
        return push(*arguments)

    monkeypatch.setattr(Pieces, "push", watched)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    for _ in model.encode_blocks([torch.randn(1, 1, 60)]):
        assert torch.backends.cudnn.allow_tf32 is True
    model.stream_decoder().push({}, torch.zeros(1, 3, 10, dtype=torch.long), True)
    assert torch.backends.cudnn.allow_tf32 is True and seen == [False, False]


def test_clips_may_be_decoded_some_at_a_time(small_blocks: None) -> None:
    model = tiny(channels=2)
    codes = torch.randint(8, (5, 3, 61), generator=torch.Generator().manual_seed(0))
    scale = torch.rand(5, 1, generator=torch.Generator().manual_seed(1))
    decoder = model.stream_decoder()
    assert decoder.clips is None  # of a CPU all
    whole = decoder.decode(codes, scale)
    for decoder.clips in (1, 2, 5, 9):
        torch.testing.assert_close(decoder.decode(codes, scale), whole, atol=1e-6, rtol=0)
