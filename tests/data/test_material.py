"""What is said of a folder whose files are known."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiocraft.cli import app
from audiocraft.data import material
from audiocraft.data.manifest import AudioMeta
from audiocraft.data.material import Look, Material, look_at, look_at_file

RATE = 16000


def write(path: Path, wav: np.ndarray, rate: int = RATE) -> AudioMeta:
    soundfile.write(path, wav, rate)
    return AudioMeta(str(path), len(wav) / rate, rate)


def clicks(bpm: float, seconds: float, seed: int = 0) -> np.ndarray:
    noise = 0.3 * np.random.default_rng(seed).standard_normal(400) * np.exp(-np.arange(400) / 60)
    wav = np.zeros(round(seconds * RATE))
    for start in np.arange(0.1, seconds - 0.1, 60 / bpm):
        wav[int(start * RATE) :][:400] += noise
    return wav


def noise(seconds: float, level: float, seed: int = 0) -> np.ndarray:
    return level * np.random.default_rng(seed).standard_normal(int(seconds * RATE))


def test_silence_and_level(tmp_path: Path) -> None:
    mute = look_at_file(write(tmp_path / "mute.wav", np.zeros(2 * RATE)))
    half = look_at_file(write(tmp_path / "half.wav", np.concatenate([noise(1, 0.1), np.zeros(RATE)])))
    assert mute.silent == 1 and mute.level == -math.inf and mute.tempo is None
    assert half.silent == pytest.approx(0.5, abs=0.03) and half.level == pytest.approx(-20, abs=0.5)


def test_clipping_is_runs_at_full_scale(tmp_path: Path) -> None:
    tone = np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE)
    clipped = look_at_file(write(tmp_path / "clipped.wav", np.clip(2 * tone, -1, 1)))
    peaks = np.zeros(RATE)
    peaks[::100] = 1.0
    assert clipped.clipped == pytest.approx(2 / 3, abs=0.05)  # of a sine at twice full scale, arcs beyond 30 degrees
    assert look_at_file(write(tmp_path / "peaks.wav", peaks)).clipped == 0
    assert look_at_file(write(tmp_path / "tone.wav", 0.9 * tone)).clipped == 0


@pytest.mark.parametrize("bpm", [120, 170])
@pytest.mark.parametrize("seconds", [12, 90])
def test_tempo_within_one_bpm(tmp_path: Path, bpm: float, seconds: float) -> None:
    look = look_at_file(write(tmp_path / "clicks.wav", clicks(bpm, seconds)))
    assert look.tempo == pytest.approx(bpm, abs=1) and look.steady
    other = look_at_file(write(tmp_path / "octave.wav", clicks(bpm / 2 if bpm > 150 else 2 * bpm, seconds)))
    assert other.tempo == pytest.approx(bpm, abs=1)  # the octave is not told apart


def test_a_tempo_that_changes_is_not_steady(tmp_path: Path) -> None:
    wav = np.concatenate([clicks(120, 45), clicks(131, 45)])
    look = look_at_file(write(tmp_path / "changes.wav", wav))
    assert look.tempo is not None and not look.steady


def test_copies_in_other_containers_and_levels(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    song = np.concatenate([noise(0.5, level, i) for i, level in enumerate(rng.uniform(0.01, 0.2, 140))])
    song = np.convolve(song, [0.5, 0.5], "same")
    meta = [write(tmp_path / name, song * gain) for name, gain in (("a.wav", 1), ("b.flac", 0.3), ("c.mp3", 0.7))]
    other = np.concatenate([noise(0.5, level, 500 + i) for i, level in enumerate(rng.uniform(0.01, 0.2, 140))])
    meta += [write(tmp_path / "other.wav", np.convolve(other, [0.5, 0.5], "same"))]
    meta += [write(tmp_path / f"loop{i}.wav", clicks(120, 4, i)) for i in range(3)]  # one pattern, other sounds
    meta += [write(tmp_path / f"tone{i}.wav", 0.1 * np.sin(np.arange(4 * RATE) * 0.1 * (i + 1))) for i in range(2)]
    meta += [write(tmp_path / f"mute{i}.wav", np.zeros(RATE)) for i in range(2)]
    found = look_at(meta)
    assert [[Path(look.path).name for look in group] for group in found.copies] == [["a.wav", "b.flac", "c.mp3"]]
    assert "2 copies of other files" in "\n".join(found.lines())
    assert found.minutes == pytest.approx((2 * 70 + 3 * 4 * 0.17 + 8) / 60, rel=0.05)


def test_what_cannot_be_looked_at_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = write(tmp_path / "good.wav", noise(1, 0.1))
    (tmp_path / "bad.wav").write_bytes(b"nothing")
    bad = AudioMeta(str(tmp_path / "bad.wav"), 1.0, RATE)
    found = look_at([bad, good])
    assert len(found.looks) == 1 and found.failed[0][0] == bad.path
    assert "not looked at: 1" in "\n".join(found.lines("pico"))

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(material, "onset_curve", broken)
    assert look_at([good]).lines("pico") == ["the material could not be looked at"]


def test_no_more_is_read_than_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, seconds = material.read_stretch, []

    def counted(path: str, start: float, length: float) -> tuple:
        wav, file = read(path, start, length)
        seconds.append(wav.shape[-1] / file.rate)
        return wav, file

    monkeypatch.setattr(material, "read_stretch", counted)
    look_at_file(write(tmp_path / "long.wav", noise(200, 0.1)))
    assert sum(seconds) == pytest.approx(material.EXCERPT_SECONDS)


def test_enough_or_by_heart() -> None:
    def minutes(count: float) -> Material:
        return Material([Look("a.wav", 60 * count, 0.0, 0.0, -20.0, None, False, np.zeros(1))])

    assert "enough for micro" in minutes(61).lines("micro")[-1]
    told = minutes(20).lines("micro")[-1]
    assert "learn these 20.0 minutes by heart" in told and "--scale nano has enough" in told
    assert "--scale" not in minutes(3).lines("pico")[-1]
    assert "rule of thumb" not in "".join(minutes(3).lines())


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "clicks.wav", clicks(120, 12))
    app(["material", str(tmp_path), "--scale", "pico"], standalone_mode=False)
    out = capsys.readouterr().out
    assert "120 BPM (1)" in out and "by heart" in out and "clipping: none" in out
