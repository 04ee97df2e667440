"""Opus as a reference: of the input's length, in time with it, and of the rate it claims."""

import av
import pytest
import torch

from audiocraft.errors import UserError
from audiocraft.metrics.opus import check_opus, opus_decode, opus_encode


def band(rate: int, seconds: float, low: float = 200, high: float = 2000) -> torch.Tensor:
    """Noise [1, T] between two frequencies, which every rate of Opus lets through."""
    length = int(rate * seconds)
    spec = torch.fft.rfft(torch.randn(length, generator=torch.Generator().manual_seed(0)))
    hz = torch.linspace(0, rate / 2, len(spec))
    spec[(hz < low) | (hz > high)] = 0
    wav = torch.fft.irfft(spec, length)
    return (0.2 * wav / wav.std())[None]


def lag(estimate: torch.Tensor, reference: torch.Tensor) -> int:
    """Samples by which a wave [T] is late."""
    size = 2 * len(reference)
    product = torch.fft.rfft(estimate, size) * torch.fft.rfft(reference, size).conj()
    place = int(torch.fft.irfft(product, size).argmax())
    return place if place < len(reference) else place - size


@pytest.mark.parametrize("rate", [32000, 44100, 48000])
def test_in_time(rate: int) -> None:
    """To the sample, and noise at a generous rate comes back as the same wave."""
    wav = band(rate, 2.0)
    back = opus_decode(opus_encode(wav, rate, 64000))
    assert back.shape == wav.shape and back.dtype == torch.float32
    assert lag(back[0], wav[0]) == 0
    assert (back - wav).norm() < 0.2 * wav.norm()


@pytest.mark.parametrize("bit_rate", [6000, 12000])
def test_low_rates_stay_in_time(bit_rate: int) -> None:
    """Speech mode turns phases a little; it does not come late."""
    wav = band(48000, 2.0)
    assert abs(lag(opus_decode(opus_encode(wav, 48000, bit_rate))[0], wav[0])) <= 5


@pytest.mark.parametrize("rate", [8000, 32000, 44100, 96000])
@pytest.mark.parametrize("length", [1, 2, 639, 640, 641, 4001])
def test_length(rate: int, length: int) -> None:
    for channels in (1, 2):
        wav = 0.1 * torch.randn(channels, length, generator=torch.Generator().manual_seed(1))
        assert opus_decode(opus_encode(wav, rate, 12000)).shape == wav.shape


def test_rate_is_that_of_the_packets() -> None:
    wav = band(32000, 2.0)
    for bit_rate in (6000, 12000):
        stream = opus_encode(wav, 32000, bit_rate)
        assert stream.bits == 8 * sum(len(packet) for packet in stream.packets)
        assert stream.bits_per_second == pytest.approx(bit_rate)
        assert stream.bits == pytest.approx(2 * bit_rate, rel=0.03)


def test_stereo_keeps_its_sides() -> None:
    left = band(48000, 1.0)
    back = opus_decode(opus_encode(torch.cat([left, 0 * left]), 48000, 96000))
    assert back[1].norm() < 0.05 * back[0].norm()


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="mono or stereo"):
        opus_encode(torch.zeros(3, 100), 48000, 6000)
    for bit_rate in (0, -5, 10**9):
        with pytest.raises(UserError, match="does not know a bit rate"):
            opus_encode(torch.zeros(1, 100), 48000, bit_rate)

    def without(name: str, mode: str = "r") -> object:
        raise av.codec.codec.UnknownCodecError(name)

    monkeypatch.setattr(av, "Codec", without)
    with pytest.raises(UserError, match=r"without libopus.*--no-opus"):
        check_opus()
