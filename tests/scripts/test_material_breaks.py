"""Kits, breaks and chops of jungle, each on its own."""

import numpy as np
import pytest
from material import breaks, chops, drums, dsp
from test_material_voices import band_share

SR = dsp.SR


@pytest.fixture(scope="module")
def kit() -> drums.Kit:
    return drums.KitShape.draw(dsp.rng_of(3, "shape")).record(dsp.rng_of(3, "takes"))


@pytest.fixture(scope="module")
def loop(kit: drums.Kit) -> breaks.Break:
    rng = dsp.rng_of(3, "break")
    return breaks.record_break(rng, kit, breaks.draw_groove(rng, 2), bpm=170.0, played_at=136.0)


def test_voices_lie_where_drums_lie(kit: drums.Kit) -> None:
    for takes in kit.takes.values():
        for take in takes:
            assert np.isfinite(take).all() and 0.1 < np.abs(take).max() <= 1.0
            assert np.abs(take[-20:]).max() < 0.02  # none is cut while it sounds
    assert band_share(kit.takes["kick"][-1], 30, 250) > 0.7
    assert band_share(kit.takes["hat"][-1], 2500, 20_000) > 0.9
    assert 0.01 < band_share(kit.takes["snare"][-1], 120, 500) < 0.97


def test_no_two_takes_of_a_voice_are_the_same(kit: drums.Kit) -> None:
    for voice in ("kick", "snare", "ghost", "hat", "ride"):
        takes = [take[:1000].tobytes() for take in kit.takes[voice]]
        assert len(set(takes)) == len(takes)


def test_break_is_whole_bars_and_its_marks_are_where_it_is_loud(loop: breaks.Break) -> None:
    assert len(loop.marks) == 32 and loop.bars == 2
    assert loop.sound.shape == (2, round(32 * SR * 60 / 170 / 4))
    struck = [np.abs(loop.slice(i, 0.5)).max() for i in loop.find("K") + loop.find("S")]
    quiet = [np.abs(loop.slice(i, 0.5)).max() for i in loop.find("h") + loop.find(".")]
    assert struck and quiet and np.median(struck) > 1.5 * np.median(quiet)


def test_straight_chops_give_the_break_back(loop: breaks.Break) -> None:
    out = np.zeros((2, round(16 * loop.step) + SR), np.float32)
    chops.render_bar(out, 0.0, chops.straight(0, 0, loop.bars), [loop], 1.0)
    bar = loop.sound[:, : round(15 * loop.step)]
    error = out[:, : bar.shape[1]] - bar
    assert np.square(error).sum() < 0.05 * np.square(bar).sum()


def test_every_edit_stays_inside_its_bar(loop: breaks.Break) -> None:
    rng = dsp.rng_of(5)
    changed = 0
    for _ in range(2500):  # rare tricks come late in a break only now and then
        pattern = chops.BARS[rng.integers(len(chops.BARS))]
        plain = chops.sequence_bar(rng, [loop], 0, pattern)
        edited = chops.edited(rng, plain, [loop], madness=1.0, last=bool(rng.random() < 0.5))
        assert edited and all(0 <= chop.at < 16 and chop.at + chop.length <= 16 + 1e-6 for chop in edited)
        assert all(0 <= chop.start < len(loop.marks) for chop in edited)
        changed += edited != plain
    assert changed > 1250


def test_reversed_chop_is_the_slice_backwards(loop: breaks.Break) -> None:
    def play(reverse: bool) -> np.ndarray:
        out = np.zeros((2, SR), np.float32)
        chops.render_bar(out, 2000.0, [chops.Chop(0, 2, 0, 4, reverse=reverse)], [loop], 1.0)
        return out[:, 2000 - breaks.LEAD :]

    forwards, backwards = play(False), play(True)
    length = round(2 * loop.step) + breaks.LEAD // 2
    inner = slice(300, length - 300)
    assert np.allclose(forwards[:, :length][:, ::-1][:, inner], backwards[:, :length][:, inner])


def test_stop_leaves_silence(loop: breaks.Break) -> None:
    out = np.zeros((2, round(17 * loop.step)), np.float32)
    chops.render_bar(out, 0.0, chops.stopped(chops.straight(0, 0, 2), 7.0), [loop], 1.0)
    assert np.abs(out[:, round(5 * loop.step) : round(6.5 * loop.step)]).max() > 0
    assert np.abs(out[:, round(7.1 * loop.step) :]).max() == 0


def test_duck_dips_at_the_kicks_and_comes_back() -> None:
    curve = chops.duck_curve(SR, [1000, 20_000], depth=0.5, release=0.05)
    assert curve[999] == 1.0 and curve[1000] == pytest.approx(0.5) and curve[19_999] > 0.98
    assert curve.min() >= 0.5 - 1e-6
