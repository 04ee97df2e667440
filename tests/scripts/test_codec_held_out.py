"""The held-out set and the ranking of codecs."""

import json
from pathlib import Path

import codec_held_out as held_out
import numpy as np
import pytest
import soundfile


def test_about_every_fifth_name_is_held_out_and_stays_so() -> None:
    names = [f"kick_{i}" for i in range(500)]
    assert 70 < sum(map(held_out.is_held_out, names)) < 130
    assert [name for name in names[:20] if held_out.is_held_out(name)] == [
        "kick_1",
        "kick_2",
        "kick_3",
        "kick_10",
        "kick_11",
        "kick_17",
    ]


def test_a_midi_file_holds_its_events_in_order_of_time() -> None:
    data = held_out.midi_file([(1.0, b"\x80\x3c\0"), (0.0, b"\x90\x3c\x40"), (21.0, b"\x90\x3e\x40")])
    assert data[:14] == b"MThd\0\0\0\6\0\0\0\1\1\xe0" and data[14:18] == b"MTrk"
    # Deltas of 0, 960 and 19200 ticks as variable-length numbers.
    body = b"\0\x90\x3c\x40" + b"\x87\x40\x80\x3c\0" + b"\x81\x96\0\x90\x3e\x40" + b"\0\xff\x2f\0"
    assert data[22:] == body and int.from_bytes(data[18:22], "big") == len(body)


@pytest.mark.parametrize("style", ["melody", "chords", "held"])
def test_phrases_are_their_seeds(style: str) -> None:
    events = held_out.phrase(33, style, 7, channel=2)
    assert events == held_out.phrase(33, style, 7, channel=2) != held_out.phrase(33, style, 8, channel=2)
    assert events[0] == (0.0, b"\xc2\x21") and len(events) > 6
    assert all(message[0] & 15 == 2 and time < held_out.SECONDS + 4 for time, message in events)


def test_making_without_a_soundfont(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    names = [name for name in (f"kick_{i}" for i in range(60)) if held_out.is_held_out(name)][:3]
    for i, name in enumerate([*names, "kick_0"]):
        wave = np.sin(np.arange(3200) * 0.05 * (i + 1)) * np.linspace(1, 0, 3200)
        soundfile.write(recordings / f"{name}.wav", wave, 32000)
    assert held_out.main(["make", str(tmp_path / "out"), "--recordings", str(recordings)]) == 0
    files = sorted((tmp_path / "out" / "rhythm").iterdir())
    assert [path.stem for path in files] == ["jungle_0", "jungle_1", *(f"loop_{i}" for i in range(8))]
    assert "10 files" in capsys.readouterr().out
    for path in files:
        wave, rate = soundfile.read(path)
        assert (len(wave), rate) == (240000, 32000) and np.abs(wave).max() == pytest.approx(0.7, abs=1e-3)


def test_too_few_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "kick_0.wav", np.zeros(100), 32000)
    assert held_out.main(["make", str(tmp_path / "out"), "--recordings", str(tmp_path)]) == 2
    assert "only 0 serve here" in capsys.readouterr().err


def evaluated(folder: Path, hum: float, pitch: float, onsets: float, mel: float) -> Path:
    for kind in ("tones", "rhythm"):
        mean = {"hum_db": {"50": hum, "400": 9.0}, "pitch_kept": pitch, "onsets": onsets, "log_mel_db": mel}
        (folder / kind).mkdir(parents=True)
        (folder / kind / "eval.json").write_text(json.dumps({"codec": folder.name, "scores": [{"mean": mean}]}))
    return folder


def test_ranking(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Hum rules out, whatever the rest; then pitch, then onsets, then log-mel."""
    numbers = {
        "buzz": (25.0, 0.99, 0.99, 0.1),
        "far": (1.0, 0.8, 0.7, 5.0),
        "near": (-3.0, 0.8, 0.7, 3.0),
        "sharp": (1.9, 0.8, 0.9, 9.0),
        "tuned": (0.0, 0.9, 0.1, 9.0),
    }
    folders = [evaluated(tmp_path / name, *values) for name, values in numbers.items()]
    assert [name for name, _ in held_out.rank(folders)] == ["tuned", "sharp", "near", "far", "buzz"]
    assert held_out.main(["rank", *map(str, folders)]) == 0
    assert capsys.readouterr().out.splitlines()[0].split()[:4] == ["1.", "tuned", "hum_db", "0.00"]
    (tmp_path / "buzz" / "tones" / "eval.json").write_text("{}")
    assert held_out.main(["rank", str(tmp_path / "buzz")]) == 2
    assert "no evaluation" in capsys.readouterr().err
