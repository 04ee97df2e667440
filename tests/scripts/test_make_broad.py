"""The broad mode of the maker: plans, whole tracks, files and the command."""

import json
from dataclasses import replace
from pathlib import Path

import make_jungle
import numpy as np
import pytest
import soundfile
from material import broad, broad_mix, dsp, library, score

PLANS = [broad.draw_plan(seed, index) for seed in range(3) for index in range(48)]


def with_layers(plan: broad.Plan, *layers: tuple[str, str]) -> broad.Plan:
    """`plan` with plain, dry layers of the kinds and varieties given, whole and without a slope or a cut."""
    made = tuple(
        broad.Layer(kind, variety, -6.0 * n, 0.0, 1.0, "plain", "dry") for n, (kind, variety) in enumerate(layers)
    )
    return replace(plan, layers=made, slope=0.0, top=None, floor=None)


def test_plans_are_of_the_kind_promised() -> None:
    for plan in PLANS:
        assert 20 <= plan.seconds <= 60
        assert 1 <= len(plan.layers) <= 4 and len({layer.kind for layer in plan.layers}) == len(plan.layers)
        assert all(layer.variety in broad.KINDS[layer.kind][1] for layer in plan.layers)
        assert all(-22 <= layer.level <= 0 and layer.stop - layer.start >= 0.15 - 1e-9 for layer in plan.layers)
        assert plan.layers[0].start == 0.0 and plan.layers[0].stop == 1.0
        assert -42 <= plan.level <= -7
    assert {layer.colour for plan in PLANS for layer in plan.layers} == set(broad.COLOURS)
    assert {layer.space for plan in PLANS for layer in plan.layers} == set(broad.SPACES)
    assert any(plan.top for plan in PLANS) and any(plan.slope for plan in PLANS)
    assert any(plan.floor is None for plan in PLANS) and any(plan.floor is not None for plan in PLANS)


def test_eight_tracks_hold_every_kind_and_finish() -> None:
    for start in range(0, len(PLANS), 8):
        eight = PLANS[start : start + 8]
        assert {plan.layers[0].kind for plan in eight} == set(broad.KINDS)
        assert sorted(plan.finish for plan in eight) == sorted(broad.FINISHES)
        assert sorted(len(plan.layers) for plan in eight) == sorted(broad.SIZES)
    for kind, (_, varieties) in broad.KINDS.items():  # a kind's varieties lead in turn
        leads = [plan.layers[0].variety for plan in PLANS[:48] if plan.layers[0].kind == kind]
        assert len(set(leads)) == min(len(leads), len(varieties))


def test_a_track_depends_on_seed_and_number_alone() -> None:
    short, long = list(library.plan_set(7, 3.0, "broad")), list(library.plan_set(7, 9.0, "broad"))
    assert [broad.describe(plan) for plan in short[:-1]] == [broad.describe(plan) for plan in long[: len(short) - 1]]
    assert broad.describe(broad.draw_plan(7, 1)) != broad.describe(broad.draw_plan(8, 1))


@pytest.mark.parametrize("minutes", [0.05, 0.2, 1.0, 10.0])
def test_a_set_is_as_long_as_asked_for(minutes: float) -> None:
    for seed in range(5):
        plans = list(library.plan_set(seed, minutes, "broad"))
        total = sum(plan.seconds for plan in plans)
        assert 60 * minutes - library.FEWEST_SECONDS <= total <= max(60 * minutes, library.FEWEST_SECONDS) + 1e-3
        assert min(plan.seconds for plan in plans) >= library.FEWEST_SECONDS


def test_jungle_is_still_the_default_and_the_same() -> None:
    plans = list(library.plan_set(11, 1.6))
    assert [(plan.name, plan.caption) for plan in plans] == [
        ("jungle_11_000", "168.4 BPM, D# minor"),
        ("jungle_11_001", "170.7 BPM, F# dorian"),
    ]
    assert isinstance(plans[0], score.Plan) and "mode" not in score.describe(plans[0])["generator"]


def test_same_plan_same_samples_other_plan_other_samples() -> None:
    plan = broad.shortened(broad.draw_plan(2, 3), 5.0)
    sound = broad_mix.render(plan)
    assert np.array_equal(broad_mix.render(broad.shortened(broad.draw_plan(2, 3), 5.0)), sound)
    assert not np.array_equal(broad_mix.render(replace(plan, index=11)), sound)


@pytest.mark.parametrize("index", range(8))
def test_tracks_are_clean(index: int) -> None:
    plan = broad.shortened(broad.draw_plan(4, index), 6.0)
    sound = broad_mix.render(plan)
    assert sound.shape == (2, plan.count) and sound.dtype == np.float32 and np.isfinite(sound).all()
    assert 1e-3 < np.abs(sound).max() < 1.0
    assert np.abs(sound.mean(axis=1)).max() < 1e-5
    assert np.abs(sound[:, -1]).max() < 0.01  # no click at the end
    assert 20 * np.log10(dsp.active_rms(sound)) < plan.level + 2.0


@pytest.mark.parametrize(("finish", "level"), [("natural", -20.0), ("quiet", -40.0), ("limited hard", -9.0)])
def test_levels_are_those_of_the_plan(finish: str, level: float) -> None:
    plan = with_layers(broad.shortened(PLANS[0], 6.0), ("drone", "detuned saws"), ("noise", "wind"))
    sound = broad_mix.render(replace(plan, finish=finish, level=level))
    assert 20 * np.log10(dsp.active_rms(sound)) == pytest.approx(level, abs=1.0)
    if finish == "limited hard":
        assert np.abs(sound).max() > dsp.db(-1.2)


def test_a_cut_leaves_nothing_above_it_and_a_slope_slopes() -> None:
    plan = with_layers(broad.shortened(PLANS[0], 6.0), ("noise", "rain"))
    power = np.square(np.abs(np.fft.rfft(broad_mix.render(replace(plan, top=3000.0, finish="natural"))[0])))
    hz = np.fft.rfftfreq(plan.count, 1 / dsp.SR)
    assert power[hz > 12_000].sum() < 1e-3 * power.sum()
    sound = broad_mix.render(replace(plan, slope=-30.0, finish="quiet", level=-30.0))
    first, last = np.square(sound[:, : dsp.SR]).mean(), np.square(sound[:, -2 * dsp.SR : -dsp.SR]).mean()
    assert 10 * np.log10(last / first) < -12


def test_files_hold_what_the_plan_says(tmp_path: Path) -> None:
    plan = with_layers(broad.shortened(PLANS[1], 5.0), ("pluck", "harp"), ("speech", "talk"))
    path = library.write_track(tmp_path, plan)
    info = soundfile.info(path)
    assert (info.samplerate, info.channels, info.subtype, info.frames) == (44_100, 2, "PCM_16", plan.count)
    facts = json.loads(path.with_suffix(".json").read_text())
    known = {"title", "artist", "key", "bpm", "genre", "moods", "keywords", "description", "name", "instrument"}
    assert known <= set(facts)
    assert facts["kind"] == "pluck" and facts["key"] == plan.tune.key.name and facts["key"] in facts["description"]
    assert facts["keywords"] == ["pluck", "harp", "speech", "talk"] and len(facts["layers"]) == 2
    assert broad.describe(with_layers(plan, ("noise", "rain"), ("bell", "gong")))["key"] is None


def test_command_writes_a_set_and_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [str(tmp_path), "--mode", "broad", "--minutes", "0.1", "--seed", "3"]
    assert make_jungle.main(command) == 0
    wav = tmp_path / "broad_3_000.wav"
    before, stamp = wav.read_bytes(), wav.stat().st_mtime_ns
    assert soundfile.info(wav).duration == pytest.approx(6.0, abs=1e-3)
    assert make_jungle.main(command) == 0
    assert wav.stat().st_mtime_ns == stamp and "1 were there already" in capsys.readouterr().out
    wav.unlink()
    assert make_jungle.main(command) == 0
    assert wav.read_bytes() == before  # bit for bit
    plan = next(iter(library.plan_set(3, 0.1, "broad")))
    assert library.is_there(tmp_path, plan) and library.is_there(tmp_path, broad.shortened(plan, 5.0))
    assert not library.is_there(tmp_path, broad.shortened(plan, 7.0))  # a longer one is made anew


def test_an_unknown_mode_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        make_jungle.main([str(tmp_path / "out"), "--mode", "techno"])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and "broad" in error
    assert not (tmp_path / "out").exists()
