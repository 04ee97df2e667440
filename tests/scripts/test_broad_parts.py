"""Voices of the broad mode, each on its own."""

import numpy as np
import pytest
from material import broad, broad_mix, dsp, held, noises, percussion, plucks, speech
from material.harmony import SCALES
from material.tune import FIGURES, Tune
from scipy import signal

SR = dsp.SR
VARIETIES = [(kind, variety) for kind, (_, varieties) in broad.KINDS.items() for variety in varieties]


def power_of(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return signal.periodogram(x, SR, window="hann", nfft=4 * x.size)


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
    count = round(2.6 * SR) + 7

    def play(seed: int) -> np.ndarray:
        rng = dsp.rng_of(seed, variety)
        return broad.KINDS[kind][0](rng, Tune.draw(rng), count, variety)

    sound = play(1)
    assert sound.shape == (2, count) and np.isfinite(sound).all()
    assert 1e-3 < dsp.active_rms(sound) < 3.0
    assert np.array_equal(play(1), sound) and not np.array_equal(play(2), sound)
    hz, power = power_of(sound.mean(axis=0))
    line = np.abs(hz - hz[np.argmax(power)]) < 2.0
    assert power[line].sum() < 0.97 * power.sum()  # a test tone would have all of it
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
        assert all(0 <= note.at < 20 * SR and note.length > 0 and 0 < note.velocity <= 1 for note in notes)


@pytest.mark.parametrize("pitch", [33.2, 57.0, 69.4, 76.0])
def test_strings_are_in_tune_and_decay_as_told(pitch: float) -> None:
    hz = dsp.midi_hz(pitch)
    sound = plucks.string(dsp.rng_of(0), pitch, 2.0, 4 * hz, decay=1.5, soft=0.05, position=0.2)
    found = peak_hz(sound[:SR], 0.7 * hz, 1.4 * hz)
    assert abs(1200 * np.log2(found / hz)) < 4  # cents
    levels = [20 * np.log10(np.abs(sound[round(t * SR) :][: SR // 10]).max()) for t in (0.4, 1.4)]
    assert -55 < levels[1] - levels[0] < -36  # 40 dB a second for the lowest partial, more for those above


def test_soft_strings_lose_their_top_first() -> None:
    def top(soft: float) -> float:
        sound = plucks.string(dsp.rng_of(0), 45, 1.0, 5000, decay=3.0, soft=soft, position=0.2)[SR // 2 :]
        hz, power = power_of(sound)
        return float(power[hz > 4000].sum() / power.sum())

    assert top(0.45) < 0.5 * top(0.1)


def test_bars_ring_at_their_ratios() -> None:
    sound = plucks.BARS["marimba"].strike(dsp.rng_of(0), 57.0, 1.0)
    for ratio in (1.0, 3.93):
        assert peak_hz(sound, 200 * ratio, 240 * ratio) == pytest.approx(220 * ratio, rel=0.005)


def test_stack_is_a_sum_of_sines_with_straight_ramps() -> None:
    rng, count = dsp.rng_of(2), 3000
    hz, phases = rng.uniform(50, 9000, 5), rng.uniform(0, 6, 5)
    levels = rng.random((5, -(-count // held.BLOCK) + 1))
    index = np.arange(count)
    points = np.arange(levels.shape[1]) * held.BLOCK
    wanted = sum(
        np.interp(index, points, level) * np.sin(2 * np.pi * f * index / SR + p)
        for f, level, p in zip(hz, levels, phases)
    )
    assert np.allclose(held.stack(count, hz, levels, phases), wanted, atol=1e-9)


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
    score = speech.Score()
    score.add(1.2, speech.VOWELS["a"], 1.0, 0.0, 0.0)
    sung = speech.speak(dsp.rng_of(0), speaker, score, np.array([57.0]))[SR // 5 : SR]
    hz, alike = periodicity(sung[:8000], 80, 500)
    assert hz == pytest.approx(220, rel=0.03) and alike > 0.7
    whispered = speech.speak(dsp.rng_of(0), speaker, score, None, whisper=True)[SR // 5 : SR]
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


def test_wander_is_smooth_and_bounded() -> None:
    curve = dsp.wander(dsp.rng_of(0), 10 * SR, 2.0)
    assert curve.shape == (10 * SR,) and np.abs(curve).max() < 1.3 and curve.std() > 0.2
    assert np.abs(np.diff(curve)).max() < 20.0 / SR


@pytest.mark.parametrize("colour", broad.COLOURS)
def test_colours_keep_the_shape_and_change_the_sound(colour: str) -> None:
    x = 0.1 * dsp.noise(dsp.rng_of(0), 2, SR)
    y = broad_mix.coloured(dsp.rng_of(1), x, colour)
    assert y.shape == x.shape and y.dtype == np.float32 and np.isfinite(y).all()
    assert np.array_equal(x, y) == (colour == "plain")
    if colour in ("mono", "telephone"):
        assert np.array_equal(y[0], y[1])
    if colour == "wide":
        low = dsp.filtered(y, 50.0, order=4)
        assert np.square(low[0] - low[1]).sum() < 0.1 * np.square(low[0] + low[1]).sum()
