"""Fingerprints: what they see through, against a search that tries everything."""

import io

import heard
import numpy as np
import pytest
import soundfile
import torch

from audiocraft.data.audio_utils import convert_audio
from audiocraft.metrics.fingerprint import BANDS, FRAMES, PHASES, Fingerprints, fingerprint, fits
from audiocraft.metrics.opus import opus_decode, opus_encode

RATE = 32000


def music(seconds: float, seed: int, rate: int = RATE) -> torch.Tensor:
    return heard.music(seconds, seed, rate)


def mp3(wav: torch.Tensor) -> torch.Tensor:
    file = io.BytesIO()
    soundfile.write(file, wav[0].numpy(), RATE, format="MP3")
    file.seek(0)
    return torch.from_numpy(soundfile.read(file, dtype="float32")[0])[None]


@pytest.fixture(scope="module")
def material() -> list[torch.Tensor]:
    return [music(8, seed) for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def prints(material: list[torch.Tensor]) -> Fingerprints:
    return Fingerprints([fingerprint([wav], RATE) for wav in material])


TREATMENTS = {
    "exact": lambda wav: wav,
    "louder": lambda wav: 2 * wav,
    "softer": lambda wav: wav / 2,
    "mp3": mp3,
    "Opus": lambda wav: opus_decode(opus_encode(wav, RATE, 48000)),
}


@pytest.mark.parametrize("name", TREATMENTS)
@pytest.mark.parametrize("start", [64000, 64000 + 333, 64000 + 640])
def test_a_copy_is_found_and_where_it_is_from(
    name: str, start: int, material: list[torch.Tensor], prints: Fingerprints
) -> None:
    copy = TREATMENTS[name](material[1][:, start : start + 3 * RATE].clone())
    found = prints.closest(fingerprint([copy], RATE, PHASES))
    inside = slice(2, len(found.likeness) - 2)  # the edges are cut, and a coder begins there
    assert found.likeness[inside].min() > 0.85
    assert (found.item[inside] == 1).all()
    places = found.frame[inside] / FRAMES - np.arange(len(found.frame))[inside] / FRAMES
    assert np.abs(places - start / RATE).max() < 0.09


def test_new_music_is_not(prints: Fingerprints) -> None:
    found = prints.closest(fingerprint([music(8, 77)], RATE, PHASES))
    assert len(found.likeness) == 7 * FRAMES + 1 and found.likeness.max() < 0.6
    noise = torch.randn(1, 3 * RATE, generator=torch.Generator().manual_seed(0))
    assert prints.closest(fingerprint([noise], RATE, PHASES)).likeness.max() < 0.6


def test_silence_and_steady_tones_are_like_nothing() -> None:
    time = torch.arange(3 * RATE) / RATE
    steady = (0.3 * torch.sin(2 * torch.pi * 440 * time))[None]
    prints = Fingerprints([fingerprint([wav], RATE) for wav in (steady, torch.zeros(1, 3 * RATE))])
    for wav in (steady[:, 1000:-1000], torch.zeros(1, 2 * RATE)):
        assert np.abs(prints.closest(fingerprint([wav], RATE, PHASES)).likeness[3:-3]).max() < 0.1  # but for the ends


def test_other_rates_channels_and_blocks(material: list[torch.Tensor]) -> None:
    wav = material[0]
    whole = fingerprint([wav], RATE)
    torch.testing.assert_close(fingerprint(wav.split(12345, dim=1), RATE), whole, atol=0.02, rtol=0.01)
    assert whole.shape == (8 * FRAMES, BANDS)
    torch.testing.assert_close(fingerprint([wav.expand(2, -1)], RATE), whole, atol=0.02, rtol=0.01)
    for rate in (44100, 48000, 16000):
        other = Fingerprints([fingerprint([convert_audio(wav, RATE, rate, 1)], rate)])
        assert other.closest(fingerprint([wav], RATE, PHASES)).likeness[2:-2].min() > 0.85
    assert fits(44100) and fits(22050) and not fits(22050, PHASES) and not fits(11024)


@pytest.mark.parametrize("seed", range(4))
def test_as_trying_everything(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audiocraft.metrics.fingerprint._ROWS", 7)
    monkeypatch.setattr("audiocraft.metrics.fingerprint._PLACES", 11)
    generator = torch.Generator().manual_seed(seed)
    items = [torch.randn(size, BANDS, generator=generator).half() for size in (60, 10, 25, 40)]
    take = torch.randn(200 + seed, BANDS, generator=generator).half()
    take[30 : 30 + 4 * 30 : 4] = items[3][5:35]
    found = Fingerprints(items).closest(take)
    assert len(found.likeness) == -(-len(take) // PHASES) - FRAMES + 1
    for window in range(len(found.likeness)):
        best, place = -1.0, (-1, 0)
        for phase in range(PHASES):
            ours = take[window * PHASES + phase :: PHASES][:FRAMES].double()
            if len(ours) < FRAMES:
                continue
            for number, item in enumerate(items):
                for start in range(len(item) - FRAMES + 1):
                    theirs = item[start : start + FRAMES].double()
                    sizes = [(part.square().sum() + FRAMES * BANDS * 0.01).sqrt() for part in (ours, theirs)]
                    like = float((ours * theirs).sum() / sizes[0] / sizes[1])
                    if like > best:
                        best, place = like, (number, start)
        assert found.likeness[window] == pytest.approx(best, abs=1e-4)
        assert (found.item[window], found.frame[window]) == place


def test_nothing_to_find() -> None:
    take = fingerprint([music(2, 0)], RATE, PHASES)
    for items in ([], [fingerprint([music(0.9, 0)], RATE)]):
        found = Fingerprints(items).closest(take)
        assert (found.item == -1).all() and (found.likeness == -1).all() and len(found.item) == FRAMES + 1
    assert len(Fingerprints([fingerprint([music(2, 0)], RATE)]).closest(take[: 4 * FRAMES - 4]).likeness) == 0
