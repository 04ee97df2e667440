"""Plans, whole tracks and the command that writes them, in both modes."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import make_jungle
import numpy as np
import pytest
import soundfile
from material import broad, broad_mix, dsp, effects, library, score, track

from audiocraft.errors import UserError

SECONDS_OF_8_BARS = 8 * 240 / 160 + score.TAIL
BROAD = [broad.draw_plan(seed, index) for seed in range(3) for index in range(48)]


def small(seed: int = 0, index: int = 0, bars: int = 4, kind: str = "drop") -> score.Plan:
    """A plan that starts at its first section of `kind` and ends `bars` bars later."""
    plan = score.draw_plan(seed, index)
    section = next(section for section in plan.sections if section.kind == kind)
    return replace(plan, sections=(replace(section, first=0, bars=bars),))


def with_layers(plan: broad.Plan, *layers: tuple[str, str]) -> broad.Plan:
    """`plan`, 5 s long, with plain, dry layers of the kinds and varieties given, whole and without a slope or a cut."""
    made = tuple(
        broad.Layer(kind, variety, -6.0 * n, 0.0, 1.0, "plain", "dry") for n, (kind, variety) in enumerate(layers)
    )
    return replace(plan, length=5.0, layers=made, slope=0.0, top=None, floor=None)


@pytest.fixture(scope="module")
def drop() -> np.ndarray:
    return track.render(small())


def test_plans_of_jungle_are_of_the_kind_promised() -> None:
    plans = [score.draw_plan(seed, index) for seed in range(4) for index in range(25)]
    for plan in plans:
        assert 160 <= plan.tune.bpm <= 175
        assert 32 <= plan.bars <= 64
        assert 45 <= plan.seconds <= 95
        assert {section.bars for section in plan.sections} <= {8, 16}
        assert any(section.kind.startswith("drop") for section in plan.sections)
        ends = [section.first + section.bars for section in plan.sections]
        assert [section.first for section in plan.sections] == [0, *ends[:-1]]
    assert len({(plan.tune, plan.pad, plan.stab, plan.bass_sounds) for plan in plans}) == 100
    assert {section.kind for plan in plans for section in plan.sections} == set(score.PARTS)


def test_a_tempo_that_is_asked_for(silent: None, tmp_path: Path) -> None:
    plans = [score.draw_plan(1, index, 160.0) for index in range(25)]
    assert {plan.tune.bpm for plan in plans} == {160.0}
    assert all(45 <= plan.seconds <= 95 for plan in plans)
    assert make_jungle.main([str(tmp_path), "--minutes", "0.2", "--bpm", "160"]) == 0
    facts = json.loads((tmp_path / "jungle_0_000.json").read_text())
    assert facts["bpm"] == 160 and facts["bars"] == 8
    (plan,) = library.plan_set(0, 0.2)
    assert not library.is_there(tmp_path, plan)


def test_broad_plans_are_of_the_kind_promised() -> None:
    for plan in BROAD:
        assert 20 <= plan.seconds <= 60
        assert 1 <= len(plan.layers) <= 4 and len({layer.kind for layer in plan.layers}) == len(plan.layers)
        assert all(layer.variety in broad.KINDS[layer.kind][1] for layer in plan.layers)
        assert all(-22 <= layer.level <= 0 and layer.stop - layer.start >= 0.15 - 1e-9 for layer in plan.layers)
        assert plan.layers[0].start == 0.0 and plan.layers[0].stop == 1.0
        assert -42 <= plan.level <= -7
    assert {layer.colour for plan in BROAD for layer in plan.layers} == set(broad.COLOURS)
    assert {layer.space for plan in BROAD for layer in plan.layers} == set(broad.SPACES)
    assert any(plan.top for plan in BROAD) and any(plan.slope for plan in BROAD)
    assert any(plan.floor is None for plan in BROAD) and any(plan.floor is not None for plan in BROAD)


def test_eight_broad_tracks_hold_every_kind_and_finish() -> None:
    for start in range(0, len(BROAD), 8):
        eight = BROAD[start : start + 8]
        assert {plan.layers[0].kind for plan in eight} == set(broad.KINDS)
        assert sorted(plan.finish for plan in eight) == sorted(broad.FINISHES)
        assert sorted(len(plan.layers) for plan in eight) == sorted(broad.SIZES)
    for kind, (_, varieties) in broad.KINDS.items():  # a kind's varieties lead in turn
        leads = [plan.layers[0].variety for plan in BROAD[:48] if plan.layers[0].kind == kind]
        assert len(set(leads)) == min(len(leads), len(varieties))


@pytest.mark.parametrize("mode", library.MODES)
def test_a_track_depends_on_seed_and_number_alone(mode: str) -> None:
    short, long, other = (list(library.plan_set(seed, minutes, mode)) for seed, minutes in ((7, 3), (7, 9), (8, 3)))
    assert [plan.describe() for plan in short[:-1]] == [plan.describe() for plan in long[: len(short) - 1]]
    assert short[0].describe() != other[0].describe()


@pytest.mark.parametrize("minutes", [0.05, 0.2, 1.0, 3.0, 10.0])
def test_a_set_is_about_as_long_as_asked_for(minutes: float) -> None:
    for seed in range(5):
        jungle, others = (list(library.plan_set(seed, minutes, mode)) for mode in library.MODES)
        assert abs(sum(plan.seconds for plan in jungle) - 60 * minutes) < SECONDS_OF_8_BARS / 2
        total = sum(plan.seconds for plan in others)
        assert 60 * minutes - broad.FEWEST_SECONDS <= total <= max(60 * minutes, broad.FEWEST_SECONDS) + 1e-3
        assert min(plan.seconds for plan in others) >= broad.FEWEST_SECONDS


def test_jungle_is_the_default_and_seeds_keep_tempo_and_key() -> None:
    plans = list(library.plan_set(11, 1.6))
    assert [(plan.name, plan.caption) for plan in plans] == [
        ("jungle_11_000", "168.4 BPM, D# minor"),
        ("jungle_11_001", "170.7 BPM, F# dorian"),
    ]


def test_the_same_jungle_again_and_other_jungle(drop: np.ndarray) -> None:
    assert np.array_equal(track.render(small()), drop)
    other = track.render(small(index=1))
    length = min(other.shape[1], drop.shape[1])
    assert np.abs(other[:, :length] - drop[:, :length]).max() > 0.1


def test_the_same_broad_track_again_and_another_one() -> None:
    plan = replace(broad.draw_plan(2, 3), length=5.0)
    sound = broad_mix.render(plan)
    assert np.array_equal(broad_mix.render(replace(broad.draw_plan(2, 3), length=5.0)), sound)
    assert not np.array_equal(broad_mix.render(replace(plan, index=11)), sound)


@pytest.mark.parametrize("kind", score.PARTS)
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


def test_spectrum_falls_like_music(drop: np.ndarray) -> None:
    power = np.square(np.abs(np.fft.rfft(drop.mean(axis=0))))
    hz = np.fft.rfftfreq(drop.shape[1], 1 / dsp.SR)
    edges = (30, 120, 500, 2000, 8000, 18_000)
    levels = [10 * np.log10(power[(hz >= a) & (hz < b)].sum() / power.sum()) for a, b in pairwise(edges)]
    assert levels[0] > -6 and all(-26 < level < -3 for level in levels[1:])


@pytest.mark.parametrize("index", range(8))
def test_broad_tracks_are_clean(index: int) -> None:
    plan = replace(broad.draw_plan(4, index), length=5.0)
    sound = broad_mix.render(plan)
    assert sound.shape == (2, plan.count) and sound.dtype == np.float32 and np.isfinite(sound).all()
    assert 1e-3 < np.abs(sound).max() < 1.0
    assert np.abs(sound.mean(axis=1)).max() < 1e-5
    assert np.abs(sound[:, -1]).max() < 0.01  # no click at the end
    assert 20 * np.log10(dsp.active_rms(sound)) < plan.level + 2.0


@pytest.mark.parametrize(("finish", "level"), [("natural", -20.0), ("quiet", -40.0), ("limited hard", -9.0)])
def test_levels_are_those_of_the_plan(finish: str, level: float) -> None:
    plan = with_layers(BROAD[0], ("drone", "detuned saws"), ("noise", "wind"))
    sound = broad_mix.render(replace(plan, length=16.0, finish=finish, level=level))
    assert 20 * np.log10(dsp.active_rms(sound)) == pytest.approx(level, abs=1.0)
    assert np.abs(sound).max() > (dsp.db(-1.2) if finish == "limited hard" else 0.0)


def test_a_cut_leaves_nothing_above_it_and_a_slope_slopes() -> None:
    plan = with_layers(BROAD[0], ("noise", "rain"))
    power = np.square(np.abs(np.fft.rfft(broad_mix.render(replace(plan, top=3000.0, finish="natural"))[0])))
    hz = np.fft.rfftfreq(plan.count, 1 / dsp.SR)
    assert power[hz > 12_000].sum() < 1e-3 * power.sum()
    sound = broad_mix.render(replace(plan, slope=-30.0, finish="quiet", level=-30.0))
    first, last = np.square(sound[:, : dsp.SR]).mean(), np.square(sound[:, -2 * dsp.SR : -dsp.SR]).mean()
    assert 10 * np.log10(last / first) < -12


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracks are of the right length and silent, which takes no time."""
    monkeypatch.setattr(library, "sound", lambda plan: np.zeros((2, plan.count), np.float32))


@pytest.mark.parametrize("plan", [small(), with_layers(BROAD[1], ("pluck", "harp"), ("speech", "talk"))])
def test_files_hold_what_the_plan_says(plan: library.Plan, silent: None, tmp_path: Path) -> None:
    path = library.write_track(tmp_path, plan)
    info = soundfile.info(path)
    assert (info.samplerate, info.channels, info.subtype, info.frames) == (44_100, 2, "PCM_16", plan.count)
    facts = json.loads(path.with_suffix(".json").read_text())
    known = {"title", "artist", "key", "bpm", "genre", "moods", "keywords", "description", "name", "instrument"}
    assert known <= set(facts)
    assert facts["key"] == plan.tune.key.name and facts["key"] in facts["description"]
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.with_suffix(".json").name, path.name]


def test_a_broad_file_names_its_layers_and_no_key_without_a_pitch() -> None:
    facts = with_layers(BROAD[1], ("pluck", "harp"), ("speech", "talk")).describe()
    assert facts["kind"] == "pluck" and facts["keywords"] == ["pluck", "harp", "speech", "talk"]
    assert len(facts["layers"]) == 2
    assert with_layers(BROAD[1], ("noise", "rain"), ("bell", "gong")).describe()["key"] is None


def test_no_half_written_track(silent: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(file: Path, data: np.ndarray, *_: object, **__: object) -> None:
        Path(file).write_bytes(b"RIFF")
        raise KeyboardInterrupt

    monkeypatch.setattr(soundfile, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        library.write_track(tmp_path, small())
    assert not list(tmp_path.glob("*.wav")) and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("mode", library.MODES)
def test_command_writes_a_set_and_goes_on_where_it_was(
    mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "set"
    command = [str(out), "--mode", mode, "--minutes", "0.08", "--seed", "3"]
    assert make_jungle.main(command) == 0
    wav = out / f"{mode}_3_000.wav"
    before, stamp = wav.read_bytes(), wav.stat().st_mtime_ns
    assert 3 < soundfile.info(wav).duration < 10
    assert make_jungle.main(command) == 0
    assert wav.stat().st_mtime_ns == stamp and "1 were there already" in capsys.readouterr().out
    wav.unlink()
    assert make_jungle.main(command) == 0
    assert wav.read_bytes() == before  # bit for bit


def test_files_of_others_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = tmp_path / "jungle_0_000.wav"
    theirs.write_bytes(b"mine")
    assert make_jungle.main([str(tmp_path), "--minutes", "0.1"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "was not made by this script" in error
    assert theirs.read_bytes() == b"mine"


@pytest.mark.parametrize("plan", [score.draw_plan(0, 0), broad.draw_plan(0, 0)])
def test_a_longer_take_is_kept_and_a_shorter_one_made_anew(plan: library.Plan, silent: None, tmp_path: Path) -> None:
    shorter, short, longer = (plan.shortened(seconds) for seconds in (6.0, 9.0, 14.0))
    assert shorter and short and longer
    library.write_track(tmp_path, short)
    assert library.is_there(tmp_path, short) and library.is_there(tmp_path, shorter)
    assert not library.is_there(tmp_path, longer)


@pytest.mark.parametrize(
    "arguments",
    [
        *("--minutes 0", "--minutes -3", "--minutes nan", "--minutes ten", "--seed -1", "--sed 1", "--mode techno"),
        *("--bpm 99", "--bpm nan", "--bpm fast", "--bpm 160 --mode broad"),
    ],
)
def test_bad_arguments_are_one_line(arguments: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        make_jungle.main([str(tmp_path / "out"), *arguments.split()])
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
    assert all(word in text for word in ("OUT", "--minutes", "--seed", "--mode", "default: 10"))
