"""Voices, breaks, chops and effects of the jungle maker, each on its own."""

import numpy as np
import pyloudnorm
import pytest
from material import bass, breaks, chops, drums, dsp, effects, harmony, textures
from scipy import signal

SR = dsp.SR


def band_share(x: np.ndarray, low: float, high: float) -> float:
    """The part of the power of `x` [T] between two frequencies."""
    hz, power = signal.periodogram(x, SR, window="hann")
    return float(power[(hz >= low) & (hz < high)].sum() / power.sum())


@pytest.fixture(scope="module")
def kit() -> drums.Kit:
    return drums.KitShape.draw(dsp.rng_of(3, "shape")).record(dsp.rng_of(3, "takes"))


@pytest.fixture(scope="module")
def loop(kit: drums.Kit) -> breaks.Break:
    rng = dsp.rng_of(3, "break")
    return breaks.record_break(rng, kit, breaks.draw_groove(rng, 2), bpm=170.0, played_at=136.0)


def test_dice_depend_on_every_word() -> None:
    draws = {float(dsp.rng_of(*words).random()) for words in ((0, 0, "a"), (0, 1, "a"), (1, 0, "a"), (0, 0, "b"))}
    assert len(draws) == 4
    assert dsp.rng_of(0, 0, "a").random() == dsp.rng_of(0, 0, "a").random()


def test_voices_lie_where_drums_lie(kit: drums.Kit) -> None:
    for takes in kit.takes.values():
        for take in takes:
            assert np.isfinite(take).all() and 0.1 < np.abs(take).max() <= 1.0
            assert np.abs(take[-20:]).max() < 0.02  # none is cut while it sounds
    assert band_share(kit.takes["kick"][-1], 30, 250) > 0.7
    assert band_share(kit.takes["hat"][-1], 2500, 20_000) > 0.9
    assert 0.03 < band_share(kit.takes["snare"][-1], 120, 500) < 0.97


def test_no_two_takes_of_a_voice_are_the_same(kit: drums.Kit) -> None:
    for voice in ("kick", "snare", "ghost", "hat", "ride"):
        takes = [take[:1000].tobytes() for take in kit.takes[voice]]
        assert len(set(takes)) == len(takes)


def test_modes_equal_the_sum_of_sines() -> None:
    rng = dsp.rng_of(1)
    hz, gains, decays, phases = rng.uniform(300, 15_000, 9), rng.random(9), rng.uniform(0.01, 0.4, 9), rng.random(9)
    t = np.arange(3001) / SR
    wanted = sum(g * np.sin(2 * np.pi * f * t + p) * np.exp(-t / d) for f, g, d, p in zip(hz, gains, decays, phases))
    assert np.allclose(drums.modes(t.size, hz, gains, decays, phases), wanted, atol=1e-9)


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
    for _ in range(5000):  # rare tricks come late in a break only now and then
        pattern = chops.BARS[rng.integers(len(chops.BARS))]
        plain = chops.sequence_bar(rng, [loop], 0, pattern)
        edited = chops.edited(rng, plain, [loop], madness=1.0, last=bool(rng.random() < 0.5))
        assert edited and all(0 <= chop.at < 16 and chop.at + chop.length <= 16 + 1e-6 for chop in edited)
        assert all(0 <= chop.start < len(loop.marks) for chop in edited)
        changed += edited != plain
    assert changed > 2500


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


@pytest.mark.parametrize("mode", harmony.MODES)
def test_chords_stay_in_the_key(mode: str) -> None:
    key = harmony.Key(6, mode)
    scale = {(6 + step) % 12 for step in harmony.MODES[mode]}
    for degree in range(7):
        for shape in harmony.SHAPES:
            notes = key.chord(degree, shape, 53)
            assert len(notes) >= 3 and {note % 12 for note in notes} <= scale and 53 <= min(notes) <= max(notes) < 72
    assert key.name.startswith("F# ")
    assert key.note(7, 3) == key.note(0, 4)


@pytest.mark.parametrize("sound", harmony.STABS)
def test_stabs_are_short_and_finite(sound: str) -> None:
    hit = harmony.stab(dsp.rng_of(2, sound), [57, 60, 64, 67], sound)
    assert hit.shape[0] == 2 and np.isfinite(hit).all() and 0.3 < np.abs(hit).max() < 1.6
    assert np.abs(hit[:, -10:]).max() < 0.02


@pytest.mark.parametrize("sound", harmony.PADS)
def test_pads_swell_and_hold_their_notes(sound: str) -> None:
    pad = harmony.pad_chord(dsp.rng_of(2, sound), [57], 2.0, sound)
    assert pad.shape == (2, 2 * SR) and np.isfinite(pad).all()
    edge, middle = np.abs(pad[:, :500]).max(), np.abs(pad[:, SR // 2 : SR]).max()
    assert edge < 0.05 * middle
    harmonics = sum(band_share(pad[0], 220 * n - 8 * n, 220 * n + 8 * n) for n in range(1, 12))
    assert harmonics > 0.85


@pytest.mark.parametrize("sound", bass.SOUNDS)
def test_bass_plays_its_note_in_the_middle(sound: str) -> None:
    notes = [bass.Note(0, SR, 33.0), bass.Note(SR + 4000, SR, 33.0)]
    line = bass.play(dsp.rng_of(4, sound), notes, 2 * SR + 4000, sound, bar=60_000.0)
    assert np.isfinite(line).all()
    assert np.abs(line[:, SR + 1000 : SR + 3900]).max() < 0.05 * np.abs(line).max()
    assert band_share(line[:, 8000:SR].mean(axis=0), 48, 64) > 0.3  # A1 is 55 Hz
    low = dsp.filtered(line, 60.0, order=4)
    assert np.square(low[0] - low[1]).sum() < 1e-2 * np.square(low[0] + low[1]).sum()


@pytest.mark.parametrize("kind", textures.ATMOSPHERES)
def test_atmospheres_have_the_length_asked_for(kind: str) -> None:
    bed = textures.atmosphere(dsp.rng_of(1, kind), kind, SR)
    assert bed.shape == (2, SR) and np.isfinite(bed).all() and np.abs(bed).max() > 0


def test_riser_rises() -> None:
    sound = textures.riser(dsp.rng_of(1), 2.0)
    thirds = [np.square(part).mean() for part in np.array_split(sound[0], 3)]
    assert thirds[0] < thirds[1] < thirds[2]


def test_varispeed_moves_pitch_and_length() -> None:
    x = np.sin(2 * np.pi * 500 * np.arange(SR) / SR).astype(np.float32)
    fast = dsp.varispeed(x, 1.5)
    assert abs(fast.size - SR / 1.5) < 2
    assert band_share(fast[100:-100], 740, 760) > 0.99


def test_swept_filter_follows_its_cutoff() -> None:
    x = dsp.noise(dsp.rng_of(0), SR)
    y = dsp.swept(x, np.geomspace(200, 16_000, SR))
    assert band_share(y[: SR // 8], 2000, 20_000) < 0.05 < 0.5 < band_share(y[-SR // 8 :], 2000, 20_000)


def test_loudness_agrees_with_pyloudnorm() -> None:
    x = dsp.noise(dsp.rng_of(0), 2, 5 * SR) * np.float32(0.1)
    x[:, 2 * SR : 3 * SR] *= 0.001
    assert effects.loudness(x) == pytest.approx(pyloudnorm.Meter(SR).integrated_loudness(x.T), abs=0.15)
    assert effects.loudness(np.zeros((2, SR), np.float32)) == -70.0


def test_limiter_holds_its_ceiling_and_leaves_the_quiet_alone() -> None:
    x = dsp.noise(dsp.rng_of(0), 2, SR)
    assert np.abs(effects.limited(x, 0.5)).max() <= 0.5 + 1e-6
    assert effects.limited(0.05 * x, 0.5) is not x and np.array_equal(effects.limited(0.05 * x, 0.5), 0.05 * x)


def test_compressor_lowers_loud_parts_alone() -> None:
    x = np.full((2, SR), 0.05, np.float32)
    x[:, SR // 2 :] = 0.8
    y = effects.compressed(x, -12.0, 4.0)
    assert np.allclose(y[:, : SR // 2 - 100], 0.05)
    # 10.1 dB over the threshold at 4:1 leave 2.5 dB of them.
    assert 20 * np.log10(y[0, -1]) == pytest.approx(-12 + 10.06 / 4, abs=0.1)


def test_echo_repeats_in_time() -> None:
    x = np.zeros((2, SR), np.float32)
    x[0, 100] = 1.0
    wet = effects.echo(x, 0.25, 0.6)
    assert np.abs(wet[:, : round(0.25 * SR)]).max() == 0
    first = wet[:, round(0.25 * SR) + 90 : round(0.25 * SR) + 400]
    assert np.abs(first[1]).max() > 0.01 and np.abs(first[0]).max() == 0  # the other side
