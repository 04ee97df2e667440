"""How takes sound: numbers held fast on made-up sound, and what they say of loops, noise and copies."""

import math

import numpy as np
import pytest
import torch

from audiocraft.metrics.sound import MATERIAL, MEASURES, TAKES, compare, describe, measure
from audiocraft.metrics.sound_features import RATE, repetition
from audiocraft.utils.rhythm import onset_curve

SECONDS = 6


def noise(seed: int, seconds: float = SECONDS, level: float = 0.1) -> torch.Tensor:
    return torch.from_numpy(level * np.random.default_rng(seed).standard_normal((1, int(seconds * RATE)))).float()


def tone(hz: float, seconds: float = SECONDS, level: float = 0.3) -> torch.Tensor:
    return level * torch.sin(2 * math.pi * hz * torch.arange(int(seconds * RATE)) / RATE)[None]


def beats(bpm: float, seed: int = 0, seconds: float = SECONDS) -> torch.Tensor:
    """Decaying noise at a tempo, over a bed of quiet noise."""
    time = torch.arange(int(seconds * RATE)) / RATE
    return noise(seed, seconds, 0.3) * torch.exp(-30 * (time % (60 / bpm))) + noise(seed + 1, seconds, 0.003)


def song(seed: int, hz: float = 300.0) -> torch.Tensor:
    """Notes and hits drawn by seed, six seconds that hardly repeat."""
    rng, parts = np.random.default_rng(seed), []
    while sum(map(len, parts)) < SECONDS * RATE:
        time = np.arange(int(rng.choice([0.1, 0.2, 0.3]) * RATE)) / RATE
        pitch = hz * 2 ** (rng.integers(0, 24) / 12)
        note = np.sin(2 * np.pi * pitch * time) * np.exp(-time * rng.uniform(2, 20))
        parts.append(0.3 * note + rng.uniform(0, 0.1) * rng.standard_normal(len(time)) * np.exp(-40 * time))
    return torch.from_numpy(np.concatenate(parts)[None, : SECONDS * RATE]).float()


# Made by an implementation of these definitions that is not this one.
BEATS = {
    "noise": (0.11186858, 94377.3725, 295.113892, 600),
    "tone": (0.00540420, 2084.90798, 368.85022, 600),
    "beats": (0.90293455, 87685.9059, 1137.64502, 600),
    "fast": (0.84108526, 95104.5417, 1759.43237, 600),
    "song": (0.47358173, 68544.3093, 1494.59338, 600),
}


@pytest.mark.parametrize("name", BEATS)
def test_beat_and_onset_curve_are_as_defined(name: str) -> None:
    wav = {"noise": noise(0), "tone": tone(220), "beats": beats(120), "fast": beats(170, 5), "song": song(0)}[name]
    beat, total, highest, values = BEATS[name]
    curve = onset_curve(wav, RATE)
    assert describe(wav)["beat"] == pytest.approx(beat, abs=1e-5)
    assert len(curve) == values
    assert float(curve.sum(dtype=np.float64)) == pytest.approx(total, rel=1e-4)
    assert float(curve.max()) == pytest.approx(highest, rel=1e-4)


@pytest.mark.parametrize(("bpm", "told"), [(96, 96), (120, 120), (170, 170), (78, 156), (200, 100)])
def test_tempo_within_an_octave(bpm: float, told: float) -> None:
    assert describe(beats(bpm))["tempo_bpm"] == pytest.approx(told, rel=0.01)


def test_noise_has_no_tempo() -> None:
    assert describe(noise(0))["tempo_bpm"] is None


def test_levels() -> None:
    loud = describe(tone(1000, level=1.0))
    assert loud["level_db"] == pytest.approx(-3.01, abs=0.01)
    assert loud["dynamics_db"] == pytest.approx(0, abs=0.01) and loud["silence"] == 0
    half = tone(1000, level=0.1)
    half[:, : half.shape[1] // 4] = 0
    told = describe(half)
    assert told["silence"] == pytest.approx(0.25)
    assert told["dynamics_db"] == pytest.approx(-23.01 + 60, abs=0.01)  # silence counts as -60 dBFS


def test_colour() -> None:
    assert describe(tone(1000))["centroid_hz"] == pytest.approx(1000, rel=0.05)
    assert describe(noise(0))["centroid_hz"] == pytest.approx(8000, rel=0.02)
    assert describe(noise(0))["flatness"] == pytest.approx(math.exp(-0.5772), abs=0.01)  # of periodograms of noise
    assert describe(tone(1000))["flatness"] < 0.001
    both = tone(100, level=0.1) + tone(1000, level=0.3)
    assert describe(both)["low_end_db"] == pytest.approx(-10, abs=0.05)
    assert describe(tone(100) + 0.5)["low_end_db"] == pytest.approx(0, abs=0.05)  # what does not move is no bass


def test_repetition() -> None:
    """A loop, also at a length that no frame divides, repeats itself; noise and what is new do not."""
    piece = song(0)[:, : int(1.41176 * RATE)]
    loop = piece.repeat(1, 5)[:, : SECONDS * RATE]
    assert repetition(loop) == 1
    assert repetition(loop + noise(1, level=0.003)) == 1
    assert repetition(noise(0)) == 0
    assert repetition(tone(220)) == 0  # it does not change, so nothing can come again
    assert repetition(song(0)) < 0.05
    half = torch.cat([song(0)[:, : 2 * RATE], song(0)[:, : 2 * RATE], song(1)[:, : 2 * RATE]], dim=1)
    assert 0.3 < repetition(half) < 0.6
    # Silence is as silence elsewhere, and is left out.
    gaps = torch.cat([song(0)[:, : 2 * RATE], torch.zeros(1, 4 * RATE)], dim=1)
    assert repetition(gaps) < 0.05


@pytest.mark.parametrize("samples", [1, 2, 639, 1024, 5000, RATE])
def test_short_and_silent_waves(samples: int) -> None:
    for wav in (torch.zeros(1, samples), noise(0, 1)[:, :samples]):
        sound = measure(wav, codes=torch.zeros(4, -(-samples // 640), dtype=torch.int64))
        assert list(sound.values) == list(MEASURES)
        assert all(value is None or math.isfinite(value) for value in sound.values.values())
        assert np.isfinite(sound.features).all() and sound.features.shape == (1, 40)
        assert len(sound.audible) == sound.codes.shape[1] and sound.audible.any() == wav.any().item()
    quiet = describe(torch.zeros(1, samples))
    assert quiet["silence"] == 1 and quiet["centroid_hz"] is None and quiet["low_end_db"] is None
    assert quiet["repetition"] is None
    with pytest.raises(ValueError, match="mono wave"):
        describe(torch.zeros(2, samples))


def test_distances() -> None:
    """Of the same kind near, of other notes farther, of noise farthest; what a perfect model comes to is told."""
    material = [measure(song(seed)) for seed in range(24)]
    same, lower = [measure(song(100 + i)) for i in range(8)], [measure(song(200 + i, hz=100)) for i in range(8)]
    hiss = [measure(noise(i)) for i in range(8)]
    report = compare(same, material, {"lower": lower, "hiss": hiss})
    near, itself, low, far = (report.groups[name].distance for name in (TAKES, MATERIAL, "lower", "hiss"))
    assert near.all < 3 * itself.all and near.timbre < 2 * itself.timbre and near.rhythm < 2 * itself.rhythm
    assert low.all > 2 * near.all and low.timbre > 2 * near.timbre and low.rhythm < 3 * near.rhythm
    assert far.all > 3 * low.all and far.rhythm > 5 * near.rhythm
    louder = compare([measure(0.5 * song(100 + i)) for i in range(8)], material).groups[TAKES].distance
    assert louder.all == pytest.approx(near.all, rel=0.3)
    assert compare(material, material).groups[TAKES].distance.all == pytest.approx(0, abs=1e-6)


def test_difference_between_takes() -> None:
    material = [measure(song(seed)) for seed in range(8)]
    report = compare(material[:1] * 4, material)
    assert report.groups[TAKES].difference == 0 and report.groups[MATERIAL].difference > 0.1
    assert report.groups[TAKES].distance.all > report.groups[MATERIAL].distance.all
    mixed = compare([measure(song(0)), measure(noise(0))], material).groups[TAKES].difference
    assert mixed > 2 * report.groups[MATERIAL].difference
    assert compare(material[:1], material).groups[TAKES].difference is None


def test_alone_and_against_too_little() -> None:
    report = compare([measure(song(0), "a"), measure(song(1), "b")])
    assert list(report.groups) == [TAKES] and report.groups[TAKES].distance is None and report.copied == []
    beats_told = [report.groups[TAKES].sounds[i].values["beat"] for i in (0, 1)]
    assert report.medians(TAKES)["beat"] == pytest.approx(np.mean(beats_told))
    little = compare([measure(song(0))], [measure(song(1))])
    assert little.groups[TAKES].distance is None and little.groups[MATERIAL].distance is None


def test_copies_are_told_by_take_and_group() -> None:
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 100, (4, 2000))
    other = rng.integers(0, 100, (4, 300))
    takes = [measure(song(0), codes=whole[:, 500:800]), measure(song(1), codes=torch.from_numpy(other))]
    silent = [measure(torch.zeros(1, SECONDS * RATE), codes=whole[:, 500:800])]
    report = compare(takes, others={"silent": silent}, trained_on=[whole])
    assert report.copied == [1, 0] and report.groups[TAKES].copied == 0.5
    assert report.groups["silent"].copied is None
    record = report.record()
    assert record[TAKES]["copied"] == 0.5 and [sound["copied"] for sound in record[TAKES]["sounds"]] == [1, 0]
