"""Voices, filters and effects of the material, each on its own."""

import numpy as np
import pytest
from material import bass, broad, broad_mix, dsp, effects, harmony, noises, percussion, speech, synthesis
from material.tune import FIGURES, MODES, SCALES, SHAPES, Key, Note, Tune
from scipy import signal

SR = dsp.SR
VARIETIES = [(kind, variety) for kind, (_, varieties) in broad.KINDS.items() for variety in varieties]


def power_of(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return signal.periodogram(x, SR, window="hann", nfft=4 * x.size)


def band_share(x: np.ndarray, low: float, high: float) -> float:
    """The part of the power of `x` [T] between two frequencies."""
    hz, power = signal.periodogram(x, SR, window="hann")
    return float(power[(hz >= low) & (hz < high)].sum() / power.sum())


def peak_hz(x: np.ndarray, low: float, high: float) -> float:
    """The strongest frequency of `x` [T] between two frequencies."""
    hz, power = power_of(x)
    inside = (hz >= low) & (hz < high)
    return float(hz[inside][np.argmax(power[inside])])


def periodicity(x: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Pitch in Hz of `x` [T] between two pitches, and how alike one period is to the next (0 to 1)."""
    spectrum = np.abs(np.fft.rfft(x - x.mean(), 2 * x.size)) ** 2
    lags = np.fft.irfft(spectrum)[: x.size]
    lags /= lags[0] * (1 - np.arange(x.size) / x.size)
    first, last = round(SR / high), round(SR / low)
    best = first + int(np.argmax(lags[first:last]))
    return SR / best, float(lags[best])


@pytest.mark.parametrize(("kind", "variety"), VARIETIES)
def test_every_variety_sounds_and_is_bound_to_its_dice(kind: str, variety: str) -> None:
    count = 3 * SR + 7

    def play(seed: int) -> np.ndarray:
        rng = dsp.rng_of(seed, variety)
        return broad.KINDS[kind][0](rng, Tune.draw(rng), count, variety)

    sound = play(2)
    assert sound.shape == (2, count) and np.isfinite(sound).all()
    assert 1e-3 < dsp.active_rms(sound) < 3.0
    assert np.array_equal(play(2), sound) and not np.array_equal(play(3), sound)
    hz, power = power_of(sound.mean(axis=0))
    line = np.abs(hz - hz[np.argmax(power)]) < 2.0
    assert power[line].sum() < 0.985 * power.sum()  # a test tone would have all of it
    assert power[hz < 15].sum() < 0.1 * power.sum()


@pytest.mark.parametrize("figure", FIGURES)
def test_figures_stay_in_key_and_in_time(figure: str) -> None:
    for seed in range(12):
        rng = dsp.rng_of(seed, figure)
        tune = Tune.draw(rng)
        notes = FIGURES[figure](rng, tune, 20 * SR, 4)
        scale = {(tune.key.tonic + step) % 12 for step in SCALES[tune.key.mode]}
        assert len(notes) >= 3
        assert {round(note.pitch - tune.cents / 100) % 12 for note in notes} <= scale
        assert all(note.at >= 0 and note.length > 0 and 0 < note.velocity <= 1 for note in notes)


@pytest.mark.parametrize("mode", MODES)
def test_chords_stay_in_the_key(mode: str) -> None:
    key = Key(6, mode)
    scale = {(6 + step) % 12 for step in MODES[mode]}
    for degree in range(7):
        for shape in SHAPES:
            notes = key.chord(degree, shape, 53)
            assert len(notes) >= 3 and {note % 12 for note in notes} <= scale and 53 <= min(notes) <= max(notes) < 72
    assert key.name.startswith("F# ") and key.note(7, 3) == key.note(0, 4)


def test_sums_of_sines_are_what_they_say() -> None:
    rng, count = dsp.rng_of(1), 3001
    hz, gains, decays, phases = rng.uniform(300, 15_000, 9), rng.random(9), rng.uniform(0.01, 0.4, 9), rng.random(9)
    t, index = np.arange(count) / SR, np.arange(count)
    dying = sum(g * np.sin(2 * np.pi * f * t + p) * np.exp(-t / d) for f, g, d, p in zip(hz, gains, decays, phases))
    assert np.allclose(synthesis.modes(count, hz, gains, decays, phases), dying, atol=1e-9)
    levels = rng.random((9, -(-count // synthesis.BLOCK) + 1))
    points = np.arange(levels.shape[1]) * synthesis.BLOCK
    rows = zip(hz, levels, phases)
    held = sum(np.interp(index, points, level) * np.sin(2 * np.pi * f * t + p) for f, level, p in rows)
    assert np.allclose(synthesis.stack(count, hz, levels, phases), held, atol=1e-9)


@pytest.mark.parametrize("pitch", [33.2, 57.0, 69.4, 76.0])
def test_strings_are_in_tune_and_decay_as_told(pitch: float) -> None:
    hz = dsp.midi_hz(pitch)
    sound = synthesis.string(dsp.rng_of(0), pitch, 2.0, 4 * hz, decay=1.5, soft=0.05, position=0.2)
    found = peak_hz(sound[:SR], 0.7 * hz, 1.4 * hz)
    assert abs(1200 * np.log2(found / hz)) < 4  # cents
    levels = [20 * np.log10(np.abs(sound[round(t * SR) :][: SR // 10]).max()) for t in (0.4, 1.4)]
    assert -55 < levels[1] - levels[0] < -36  # 40 dB a second for the lowest partial, more for those above


def test_soft_strings_lose_their_top_first() -> None:
    def top(soft: float) -> float:
        sound = synthesis.string(dsp.rng_of(0), 45, 1.0, 5000, decay=3.0, soft=soft, position=0.2)
        return band_share(sound[SR // 2 :], 4000, SR / 2)

    assert top(0.45) < 0.5 * top(0.1)


@pytest.mark.parametrize("name", [*synthesis.BARS, *synthesis.CASTS])
def test_bars_and_bells_ring_at_their_ratios(name: str) -> None:
    instrument = (synthesis.BARS | synthesis.CASTS)[name]
    sound = instrument.strike(dsp.rng_of(0), 57.0, 1.0)
    for ratio in instrument.ratios[:2]:
        assert peak_hz(sound, 213 * ratio, 227 * ratio) == pytest.approx(220 * ratio, rel=0.008)


@pytest.mark.parametrize("slope", [-0.5, 0.0, 1.0, 2.0])
def test_noise_has_the_colour_asked_for(slope: float) -> None:
    sound = noises.coloured(dsp.rng_of(0), 4 * SR, slope)
    hz, power = signal.welch(sound[0], SR, nperseg=4096)
    inside = (hz > 100) & (hz < 15_000)
    fit = np.polyfit(np.log2(hz[inside]), 10 * np.log10(power[inside]), 1)[0]
    assert fit == pytest.approx(-3.01 * slope, abs=0.25)
    assert sound.std() == pytest.approx(1.0, rel=1e-3)


def test_resonators_raise_their_formants() -> None:
    blocks = 400
    formants = np.repeat([[700.0], [1200.0], [2600.0]], blocks, axis=1)
    noise = dsp.noise(dsp.rng_of(0), blocks * speech.BLOCK).astype(float)
    out = speech._resonated(noise, formants, np.full((3, blocks), 80.0))
    hz, power = signal.welch(out, SR, nperseg=2048)
    peaks = hz[signal.find_peaks(10 * np.log10(power), prominence=6)[0]]
    for formant in (700, 1200, 2600):
        assert np.abs(peaks - formant).min() < 60


def test_voices_sing_the_note_and_whispers_have_none() -> None:
    speaker = speech.Speaker.draw(dsp.rng_of(1))
    segments = [speech.Segment(1.2, speech.VOWELS["a"], voice=1.0)]
    sung = speech.speak(dsp.rng_of(0), speaker, segments, np.array([57.0]))[SR // 5 : SR]
    hz, alike = periodicity(sung[:8000], 80, 500)
    assert hz == pytest.approx(220, rel=0.03) and alike > 0.7
    whispered = speech.speak(dsp.rng_of(0), speaker, segments, None, whisper=True)[SR // 5 : SR]
    assert periodicity(whispered[:8000], 80, 300)[1] < 0.4


def test_speech_comes_in_syllables() -> None:
    rng = dsp.rng_of(3)
    speaker = speech.Speaker.draw(rng)
    phrase = speech.speak(rng, speaker, speech.draw_phrase(rng, speaker.pace, 12))
    level = np.sqrt(np.square(phrase[: phrase.size // 441 * 441]).reshape(-1, 441).mean(axis=1))
    smooth = np.convolve(level, np.hanning(9), "same")
    assert 5 <= signal.find_peaks(smooth, prominence=0.08 * smooth.max())[0].size <= 30
    assert 0.8 < phrase.size / SR < 6.0


def test_percussion_leaves_silence() -> None:
    shares = []
    for seed in range(10):
        rng = dsp.rng_of(seed)
        sound = percussion.percussion(rng, Tune.draw(rng), 10 * SR, "wood")
        level = np.abs(sound).max(axis=0).reshape(-1, 441).max(axis=1)
        shares.append(float((level < 1e-3 * level.max()).mean()))
    assert np.median(shares) > 0.4 and max(shares) < 1.0


@pytest.mark.parametrize("colour", broad.COLOURS)
def test_colours_keep_the_shape_and_change_the_sound(colour: str) -> None:
    x = 0.1 * dsp.noise(dsp.rng_of(0), 2, SR)
    y = broad_mix.coloured(dsp.rng_of(1), x, colour)
    assert y.shape == x.shape and y.dtype == np.float32 and np.isfinite(y).all()
    assert np.array_equal(x, y) == (colour == "plain")


@pytest.mark.parametrize("colour", ["mono", "telephone"])
def test_colours_of_one_channel_have_one(colour: str) -> None:
    left, right = broad_mix.coloured(dsp.rng_of(1), 0.1 * dsp.noise(dsp.rng_of(0), 2, SR), colour)
    assert np.array_equal(left, right)


@pytest.mark.parametrize("sound", harmony.STABS)
def test_stabs_are_short_and_finite(sound: str) -> None:
    hit = harmony.stab(dsp.rng_of(2, sound), [57, 60, 64, 67], sound)
    assert hit.shape[0] == 2 and np.isfinite(hit).all() and 0.3 < np.abs(hit).max() < 1.6
    assert np.abs(hit[:, -10:]).max() < 0.02


@pytest.mark.parametrize("sound", harmony.PADS)
def test_pads_swell_and_hold_their_notes(sound: str) -> None:
    pad = harmony.pad_chord(dsp.rng_of(2, sound), [57], 3.0, sound)
    assert np.abs(pad[:, :200]).max() < 0.1 * np.abs(pad).max() and np.abs(pad[:, -200:]).max() < 0.02
    assert sum(band_share(pad[0], 212 * n, 228 * n) for n in range(1, 12)) > 0.85


@pytest.mark.parametrize("sound", bass.SOUNDS)
def test_bass_plays_its_note_in_the_middle(sound: str) -> None:
    notes = [Note(0, 1.0, 33.0, 1.0), Note(SR + 4000, 1.0, 33.0, 1.0)]
    line = bass.play(dsp.rng_of(4, sound), notes, 2 * SR + 4000, sound, bar=60_000.0)
    assert np.isfinite(line).all()
    assert np.abs(line[:, SR + 1000 : SR + 3900]).max() < 0.05 * np.abs(line).max()
    assert band_share(line[:, 8000:SR].mean(axis=0), 48, 64) > 0.3  # A1 is 55 Hz
    low = dsp.filtered(line, 60.0, order=4)
    assert np.square(low[0] - low[1]).sum() < 1e-2 * np.square(low[0] + low[1]).sum()


def test_riser_rises() -> None:
    sound = noises.riser(dsp.rng_of(1), 2.0)
    thirds = [np.square(part).mean() for part in np.array_split(sound[0], 3)]
    assert thirds[0] < thirds[1] < thirds[2]


def test_dice_depend_on_every_word() -> None:
    draws = {float(dsp.rng_of(*words).random()) for words in ((0, 0, "a"), (0, 1, "a"), (1, 0, "a"), (0, 0, "b"))}
    assert len(draws) == 4
    assert dsp.rng_of(0, 0, "a").random() == dsp.rng_of(0, 0, "a").random()


def test_wander_is_smooth_and_bounded() -> None:
    curve = dsp.wander(dsp.rng_of(0), 10 * SR, 2.0)
    assert curve.shape == (10 * SR,) and np.abs(curve).max() < 1.3 and curve.std() > 0.2
    assert np.abs(np.diff(curve)).max() < 20.0 / SR


def test_varispeed_moves_pitch_and_length() -> None:
    x = np.sin(2 * np.pi * 500 * np.arange(SR) / SR).astype(np.float32)
    fast = dsp.varispeed(x, 1.5)
    assert abs(fast.size - SR / 1.5) < 2
    assert band_share(fast[100:-100], 740, 760) > 0.99


@pytest.mark.parametrize("kind", ["lowpass", "bandpass"])
def test_swept_filter_follows_its_cutoff(kind: str) -> None:
    y = dsp.swept(dsp.noise(dsp.rng_of(0), SR), np.geomspace(200, 16_000, SR), kind)
    shares = [band_share(part, 2000, 20_000) for part in (y[: SR // 8], y[-SR // 8 :])]
    assert shares[0] < shares[1] and shares[1] > 0.5


@pytest.mark.parametrize(("kind", "hz"), [("peak", 1000), ("low", 100), ("high", 12_000)])
def test_an_equaliser_lifts_where_it_should(kind: str, hz: float) -> None:
    x = dsp.noise(dsp.rng_of(0), 4 * SR)
    freqs, before = signal.welch(x, SR, nperseg=4096)
    _, after = signal.welch(dsp.tilted(x, kind, 1000.0, 6.0), SR, nperseg=4096)
    near = np.abs(freqs - hz) < 30
    assert 10 * np.log10(after[near].mean() / before[near].mean()) == pytest.approx(6.0, abs=0.5)


def test_limiter_holds_its_ceiling_and_leaves_the_quiet_alone() -> None:
    x = dsp.noise(dsp.rng_of(0), 2, SR)
    assert np.abs(effects.limited(x, 0.5)).max() <= 0.5 + 1e-6
    assert np.array_equal(effects.limited(0.05 * x, 0.5), 0.05 * x)


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
