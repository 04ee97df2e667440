"""Whole tracks and the command that writes them."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import make_jungle
import numpy as np
import pytest
import soundfile
from material import dsp, effects, library, score, track
from material.score import Plan

from audiocraft.errors import UserError

SECONDS_OF_8_BARS = 8 * 240 / 160 + score.TAIL


def small(seed: int = 0, index: int = 0, bars: int = 8, kind: str = "drop") -> Plan:
    """A plan that starts at its first section of `kind` and ends `bars` bars later."""
    plan = score.draw_plan(seed, index)
    section = next(section for section in plan.sections if section.kind == kind)
    return replace(plan, sections=[replace(section, first=0, bars=bars)])


@pytest.fixture(scope="module")
def drop() -> tuple[Plan, np.ndarray]:
    plan = small()
    return plan, track.render(plan)


def test_plans_are_of_the_kind_promised() -> None:
    plans = [score.draw_plan(seed, index) for seed in range(4) for index in range(25)]
    for plan in plans:
        assert 160 <= plan.bpm <= 175
        assert 32 <= plan.bars <= 64
        assert 45 <= plan.seconds <= 95
        assert {section.bars for section in plan.sections} <= {8, 16}
        assert any(section.kind.startswith("drop") for section in plan.sections)
        ends = [section.first + section.bars for section in plan.sections]
        assert [section.first for section in plan.sections] == [0, *ends[:-1]]
    assert len({(plan.bpm, plan.key, plan.progression, plan.pad, plan.stab, plan.bass_sounds) for plan in plans}) == 100
    assert {section.kind for plan in plans for section in plan.sections} == {
        "intro", "drop", "breakdown", "drop 2", "outro",
    }  # fmt: skip


def test_a_track_depends_on_seed_and_number_alone() -> None:
    short, long = list(library.plan_set(7, 3.0)), list(library.plan_set(7, 12.0))
    assert [score.describe(plan) for plan in short[:-1]] == [score.describe(plan) for plan in long[: len(short) - 1]]
    assert score.describe(score.draw_plan(7, 1)) != score.describe(score.draw_plan(8, 1))


@pytest.mark.parametrize("minutes", [0.2, 1.0, 3.0, 10.0, 20.0])
def test_a_set_is_about_as_long_as_asked_for(minutes: float) -> None:
    for seed in range(5):
        total = sum(plan.seconds for plan in library.plan_set(seed, minutes))
        assert abs(total - 60 * minutes) < SECONDS_OF_8_BARS / 2


def test_same_plan_same_samples_other_plan_other_samples(drop: tuple[Plan, np.ndarray]) -> None:
    _, sound = drop
    assert np.array_equal(track.render(small()), sound)
    other = track.render(small(index=1))
    length = min(other.shape[1], sound.shape[1])
    assert np.abs(other[:, :length] - sound[:, :length]).max() > 0.1


@pytest.mark.parametrize("kind", ["intro", "drop", "breakdown", "drop 2", "outro"])
def test_a_section_of_any_kind_sounds_like_a_record(kind: str) -> None:
    index = next(i for i in range(50) if any(s.kind == kind for s in score.draw_plan(1, i).sections))
    plan = small(1, index, 4, kind)
    sound = track.render(plan)
    assert sound.shape == (2, plan.count) and sound.dtype == np.float32 and np.isfinite(sound).all()
    assert np.abs(sound).max() <= dsp.db(-0.9)
    assert np.abs(sound.mean(axis=1)).max() < 1e-4
    assert -13.5 < effects.loudness(sound) < -9.0
    block = np.sqrt(np.square(sound[:, : -2 * dsp.SR]).mean(axis=0)[: dsp.SR * 3].reshape(-1, dsp.SR // 2).mean(axis=1))
    assert block.min() > 1e-3  # no silence longer than half a second
    low = dsp.filtered(sound, 60.0, order=4)
    assert np.square(low[0] - low[1]).sum() < 0.05 * np.square(low[0] + low[1]).sum()
    assert np.square(sound[0] - sound[1]).sum() > 1e-3 * np.square(sound[0] + sound[1]).sum()


def test_spectrum_falls_like_music(drop: tuple[Plan, np.ndarray]) -> None:
    power = np.square(np.abs(np.fft.rfft(drop[1].mean(axis=0))))
    hz = np.fft.rfftfreq(drop[1].shape[1], 1 / dsp.SR)
    edges = (30, 120, 500, 2000, 8000, 18_000)
    levels = [10 * np.log10(power[(hz >= a) & (hz < b)].sum() / power.sum()) for a, b in pairwise(edges)]
    assert levels[0] > -6 and all(-26 < level < -3 for level in levels[1:])


def test_files_hold_what_the_plan_says(tmp_path: Path) -> None:
    plan = small(bars=4)
    path = library.write_track(tmp_path, plan)
    info = soundfile.info(path)
    assert (info.samplerate, info.channels, info.subtype, info.frames) == (44_100, 2, "PCM_16", plan.count)
    facts = json.loads(path.with_suffix(".json").read_text())
    known = {"title", "artist", "key", "bpm", "genre", "moods", "keywords", "description", "name", "instrument"}
    assert known <= set(facts)
    assert facts["bpm"] == plan.bpm and facts["key"] == plan.key.name and "jungle" in facts["keywords"]
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.with_suffix(".json").name, path.name]


def test_no_half_written_track(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(file: Path, data: np.ndarray, *_: object, **__: object) -> None:
        Path(file).write_bytes(b"RIFF")
        raise KeyboardInterrupt

    monkeypatch.setattr(library, "render", lambda plan: np.zeros((2, plan.count), np.float32))
    monkeypatch.setattr(soundfile, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        library.write_track(tmp_path, small(bars=4))
    assert not list(tmp_path.glob("*.wav")) and not list(tmp_path.glob(".*"))


def test_command_writes_a_set_and_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "set"
    assert make_jungle.main([str(out), "--minutes", "0.1", "--seed", "3"]) == 0
    wav = out / "jungle_3_000.wav"
    before = wav.read_bytes()
    assert 3 < soundfile.info(wav).duration < 10
    stamp = wav.stat().st_mtime_ns
    assert make_jungle.main([str(out), "--minutes", "0.1", "--seed", "3"]) == 0
    assert wav.stat().st_mtime_ns == stamp and "1 were there already" in capsys.readouterr().out
    wav.unlink()
    assert make_jungle.main([str(out), "--minutes", "0.1", "--seed", "3"]) == 0
    assert wav.read_bytes() == before  # bit for bit


def test_files_of_others_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = tmp_path / "jungle_0_000.wav"
    theirs.write_bytes(b"mine")
    assert make_jungle.main([str(tmp_path), "--minutes", "0.1"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "was not made by this script" in error
    assert theirs.read_bytes() == b"mine"


def test_a_longer_take_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "render", lambda plan: np.zeros((2, plan.count), np.float32))
    plan = small(bars=4)
    library.write_track(tmp_path, plan)
    assert library.is_there(tmp_path, score.shortened(plan, 2))
    assert not library.is_there(tmp_path, small(bars=8))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--minutes", "0"],
        ["--minutes", "-3"],
        ["--minutes", "nan"],
        ["--minutes", "ten"],
        ["--seed", "-1"],
        ["--sed", "1"],
    ],
)
def test_bad_numbers_are_one_line(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        make_jungle.main([str(tmp_path / "out"), *arguments])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_bad_places_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.touch()
    for out in (file, file / "below"):
        assert make_jungle.main([str(out)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(UserError, match="ask for fewer minutes"):
        library.check_place(tmp_path, 1e9)


def test_help_shows_how(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        make_jungle.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("OUT", "--minutes", "--seed", "default: 10"))
