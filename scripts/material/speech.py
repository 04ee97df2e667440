"""Speech without words: a glottal pulse train and noise through formants that move in syllables.

Source and filter after D. Klatt (Software for a cascade/parallel formant synthesizer, 1980), much reduced; formants of
the vowels after G. Peterson and H. Barney (1952), times and places of the consonants near those of D. Klatt's tables.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import signal

from .dsp import SR, Array, Rng, edges, filtered, noise, peaked, place, smoothed, varispeed, wander
from .effects import crushed
from .tune import Tune

BLOCK = 96  # samples (2.2 ms) for which formants stand still

VOWELS = {
    "ee": (270, 2290, 3010),
    "i": (390, 1990, 2550),
    "e": (530, 1840, 2480),
    "ae": (660, 1720, 2410),
    "a": (730, 1090, 2440),
    "aw": (570, 840, 2410),
    "u": (440, 1020, 2240),
    "oo": (300, 870, 2240),
    "uh": (640, 1190, 2390),
    "er": (490, 1350, 1690),
}


class Consonant(NamedTuple):
    """Seconds, the formants it pulls towards, how loud the voice and the breath are in it, and its noise.

    `hiss` is a band of noise in Hz with its level; `burst` says that the noise comes at the end, where a closure opens.
    """

    length: float
    formants: tuple[int, int, int]
    voice: float
    breath: float = 0.0
    hiss: tuple[float, float, float] = (0, 0, 0)
    burst: bool = False


CONSONANTS = {
    "m": Consonant(0.070, (280, 1000, 2200), 0.30),
    "n": Consonant(0.060, (280, 1600, 2600), 0.30),
    "l": Consonant(0.065, (360, 1100, 2800), 0.55),
    "r": Consonant(0.065, (340, 1150, 1500), 0.55),
    "w": Consonant(0.070, (290, 650, 2200), 0.55),
    "y": Consonant(0.060, (270, 2250, 2950), 0.50),
    "s": Consonant(0.105, (320, 1500, 2550), 0.0, 0.0, (4600, 9500, 0.34)),
    "sh": Consonant(0.110, (310, 1800, 2600), 0.0, 0.0, (2100, 6200, 0.36)),
    "f": Consonant(0.090, (340, 1050, 2100), 0.0, 0.1, (1500, 11_000, 0.09)),
    "z": Consonant(0.080, (300, 1500, 2550), 0.25, 0.0, (4400, 9000, 0.20)),
    "v": Consonant(0.060, (300, 1050, 2100), 0.30, 0.0, (1500, 9000, 0.05)),
    "h": Consonant(0.070, (500, 1500, 2500), 0.0, 0.55),
    "p": Consonant(0.085, (350, 800, 2150), 0.0, 0.0, (350, 1600, 0.30), True),
    "t": Consonant(0.080, (350, 1750, 2650), 0.0, 0.0, (2800, 9000, 0.40), True),
    "k": Consonant(0.085, (330, 1900, 2350), 0.0, 0.0, (1300, 3600, 0.38), True),
    "b": Consonant(0.060, (300, 800, 2150), 0.10, 0.0, (300, 1400, 0.16), True),
    "d": Consonant(0.055, (300, 1750, 2650), 0.10, 0.0, (2500, 7000, 0.20), True),
    "g": Consonant(0.060, (290, 1950, 2350), 0.10, 0.0, (1200, 3300, 0.20), True),
}


class Segment(NamedTuple):
    """A moment of speech: seconds, formants in Hz, how loud voice and breath are, pitch accent, and a noise.

    The accent is -1 to 1; `hiss` is a band in Hz with its level, heard for the last `hiss_length` seconds.
    """

    length: float
    formants: tuple[int, int, int]
    voice: float = 0.0
    breath: float = 0.0
    accent: float = 0.0
    hiss: tuple[float, float, float] = (0, 0, 0)
    hiss_length: float = 0.0


@dataclass(frozen=True)
class Speaker:
    """One voice: pitch in Hz, size of the mouth (1 a man's, 1.17 a woman's), breath, pitch range in semitones, pace."""

    hz: float
    mouth: float
    breath: float
    range: float
    pace: float
    open_share: float
    dark: float
    jitter: float

    @classmethod
    def draw(cls, rng: Rng) -> "Speaker":
        """A man, a woman or a child."""
        hz, mouth = ((105, 1.0), (125, 1.02), (200, 1.16), (225, 1.18), (290, 1.35))[rng.integers(5)]
        low, high = (0.02, 1.5, 0.75, 0.45, 2200, 0.003), (0.22, 7.0, 1.35, 0.72, 8000, 0.018)
        return cls(hz * 2.0 ** rng.normal(0, 0.14), mouth * rng.normal(1, 0.04), *rng.uniform(low, high))


def _consonant(name: str, pace: float, accent: float) -> list[Segment]:
    sound = CONSONANTS[name]
    length = sound.length / pace
    segments = [Segment(length, sound.formants, sound.voice, sound.breath, accent, sound.hiss, length)]
    if sound.burst:
        segments[0] = segments[0]._replace(hiss_length=0.016)
        if not sound.voice:  # the breath that follows a voiceless stop
            segments.append(Segment(0.035 / pace, sound.formants, 0.0, 0.5, accent))
    return segments


def draw_phrase(rng: Rng, pace: float, syllables: int, sung: list[float] | None = None) -> list[Segment]:
    """`syllables` syllables; `sung` gives each of them a length in seconds."""
    names, vowels = list(CONSONANTS), list(VOWELS)
    segments = [Segment(0.03, VOWELS["uh"])]
    for number in range(syllables):
        stressed, last = rng.random() < 0.4, number == syllables - 1
        accent = rng.uniform(0.5, 1.0) if stressed else rng.uniform(-0.3, 0.2)
        if rng.random() < 0.88:
            segments += _consonant(str(rng.choice(names)), pace, accent)
        if rng.random() < 0.12:
            segments += _consonant(str(rng.choice(["l", "r", "w", "y"])), pace, accent)
        length = rng.uniform(0.055, 0.12) * (1.5 if stressed else 1.0) * (1.5 if last else 1.0) / pace
        length = max(0.08, sung[number] - 0.08) if sung else length
        loud = rng.uniform(0.8, 1.0) if stressed else rng.uniform(0.5, 0.8)
        first, second = (VOWELS[str(vowel)] for vowel in rng.choice(vowels, 2))
        segments.append(Segment(length * 0.6, first, loud, 0.0, accent))
        segments.append(Segment(length * 0.4, second if rng.random() < 0.3 else first, loud * 0.85, 0.0, accent * 0.6))
        if rng.random() < (0.15 if sung else 0.3):
            segments += _consonant(str(rng.choice(names)), pace, accent * 0.5)
    return [*segments, Segment(0.12, VOWELS["uh"])]


def _smooth(values: Array, length: float) -> Array:
    """`values` [..., B] without corners shorter than `length` seconds."""
    return smoothed(values, 2 * max(1, round(length * SR / BLOCK / 2)) + 1)


def _glottis(hz: Array, share: float) -> Array:
    """Derivative of a glottal flow t^2 - t^3 that is open for `share` of the cycle [T]; its corner is band-limited."""
    step = hz / SR
    phase = np.cumsum(step) % 1.0
    u = phase / share
    # The flow stops at once: a step from -1 to 0, rounded over one sample on either side (polyBLEP).
    after = (phase - share) / step
    rounding = 0.5 * np.clip(1 - np.abs(after), 0, None) ** 2
    return np.where(u < 1.0, u * (2.0 - 3.0 * u), 0.0) - np.where(after >= 0, rounding, -rounding)


def _resonated(source: Array, formants: Array, widths: Array) -> Array:
    """`source` [T] through resonators in a row, their `formants` and `widths` [N, B] in Hz new in every block."""
    radius = np.exp(-np.pi * widths / SR)
    b1, b2 = 2 * radius * np.cos(2 * np.pi * formants / SR), -(radius**2)
    zero, one = np.zeros_like(b1), np.ones_like(b1)
    sections = np.stack([1 - b1 - b2, zero, zero, one, -b1, -b2]).transpose(2, 1, 0)
    out, state = np.empty(source.size), np.zeros((formants.shape[0], 2))
    for block, section in enumerate(np.ascontiguousarray(sections)):
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        out[part], state = signal.sosfilt(section, source[part], zi=state)
    return out


def speak(
    rng: Rng, speaker: Speaker, segments: list[Segment], contour: Array | None = None, whisper: bool = False
) -> Array:
    """A phrase [T]. `contour` [segments] gives sung MIDI pitches; without it the voice falls towards the end, rises on
    accents, and ends like a statement, a question or a comma."""
    ends = np.cumsum([segment.length for segment in segments])
    blocks = int(ends[-1] * SR / BLOCK)
    at = np.minimum(np.searchsorted(ends, np.arange(blocks) * BLOCK / SR, side="right"), ends.size - 1)
    formants = _smooth(np.array([s.formants for s in segments], float).T[:, at] * speaker.mouth, 0.055)
    voice, breath, accent = np.array([(s.voice, s.breath, s.accent) for s in segments]).T[:, at]
    count, index, points = blocks * BLOCK, np.arange(blocks * BLOCK), np.arange(blocks) * BLOCK
    if contour is None:
        way = np.arange(blocks) / blocks
        ending = float(rng.choice([-1.0, -0.8, 1.6, 0.3])) * np.clip((way - 0.75) / 0.25, 0, 1) ** 1.5
        hz = speaker.hz * 2.0 ** (speaker.range * (0.5 - 0.8 * way + 0.6 * _smooth(accent, 0.12) + ending) / 12)
    else:
        vibrato = 0.35 * np.sin(2 * np.pi * rng.uniform(4.8, 6.2) * points / SR) * np.minimum(1, points / SR / 0.4)
        hz = 440.0 * 2.0 ** ((_smooth(contour[at], 0.09) + vibrato - 69) / 12)
    curve = np.interp(index, points, hz) * (1 + speaker.jitter * wander(rng, count, 35.0))
    air = noise(rng, count)
    voiced, breathed = (np.interp(index, points, _smooth(level, 0.022)) for level in (voice, breath))
    source = breathed * 0.25 * air
    if whisper:
        source = filtered(source + 0.3 * voiced * air, 450, "highpass")  # a whisper has no chest
    else:
        pulses = _glottis(curve, speaker.open_share)
        pulses = filtered(pulses + speaker.breath * air * (0.25 + (pulses != 0)), speaker.dark, order=1)
        source += voiced * pulses * (1 + 0.12 * wander(rng, count, 25.0))
    high = np.array([3400, 4300, 5400, 6500, 7700])[:, None] * speaker.mouth * np.ones(blocks)
    # The more the jaw opens, the more the first formant loses; the upper ones are wide.
    widths = np.concatenate([60 + 0.06 * formants[:1], 70 + 0.03 * formants[1:], 0.07 * high])
    out = peaked(_resonated(source, np.concatenate([formants, high]), widths))[None]
    for end, segment in zip(ends, segments):
        (low, top, level), length = segment.hiss, segment.hiss_length
        if level:
            hiss = filtered(noise(rng, round((length + 0.02) * SR)), (low * speaker.mouth**0.5, top), "bandpass")
            hiss = edges(hiss, 0.1 * length, 0.012 if length < 0.02 else 0.045)
            start = round((end - (0.004 if length < 0.02 else length)) * SR)
            out[0, start : start + hiss.size] += 0.5 * level * hiss[: max(0, count - start)]
    return edges(filtered(out[0], 70, "highpass"), 0.01, 0.03)


def shout(rng: Rng) -> Array:
    """A sung syllable [2, T] as cut from a record: driven, coarse, dark."""
    segments = draw_phrase(rng, 1.0, 1, [rng.uniform(0.22, 0.6)])
    pitch = rng.uniform(49, 62) + np.linspace(0, rng.uniform(-6, 3), len(segments))
    voice = crushed(np.tanh(2.5 * peaked(speak(rng, Speaker.draw(rng), segments, pitch))), 8, 2)
    return np.stack([filtered(edges(voice), 6500)] * 2)


def _talk(rng: Rng, tune: Tune, count: int, speakers: int, whisper: bool = False) -> Array:
    """Phrases with pauses; two speakers take turns and now and then talk at once."""
    voices = [Speaker.draw(rng) for _ in range(speakers)]
    pans = rng.uniform(-0.7, 0.7, speakers) if speakers > 1 else [rng.uniform(-0.15, 0.15)]
    out = np.zeros((2, count), np.float32)
    at, who, pause = rng.uniform(0, 0.6), 0, rng.uniform(0.25, 1.2)
    while at * SR < count:
        phrase = speak(rng, voices[who], draw_phrase(rng, voices[who].pace, int(rng.integers(2, 15))), None, whisper)
        place(out, phrase, round(at * SR), rng.uniform(0.6, 1.0), float(pans[who]))
        at += phrase.size / SR + max(-0.3, rng.exponential(pause) - (0.1 if speakers > 1 else 0.0))
        who = int(rng.integers(speakers)) if rng.random() < 0.6 else who
    return out


def _song(rng: Rng, tune: Tune, count: int, singers: int) -> Array:
    """Lines sung on notes of the chords, by one voice or several in thirds."""
    voices = [Speaker.draw(rng) for _ in range(singers)]
    out = np.zeros((2, count), np.float32)
    beat = 0.0
    while beat * tune.beat < count:
        rhythm = rng.choice([0.5, 0.5, 1.0, 1.0, 2.0, 3.0], int(rng.integers(3, 9)))
        segments = draw_phrase(rng, 1.0, rhythm.size, [max(0.2, beats * tune.beat / SR) for beats in rhythm])
        steps = np.cumsum(rng.choice([-2, -1, 0, 1, 1, 2], len(segments))) // 3
        for number, speaker in enumerate(voices):
            octave = int(np.clip(round(np.log2(speaker.hz / 32.7)), 2, 5))
            degree = tune.degree(beat) + 2 * number
            contour = np.array([tune.pitch(degree + int(np.clip(step, -3, 5)), octave) for step in steps])
            pan = 0.0 if singers == 1 else (number / (singers - 1) - 0.5) * 1.4
            at = round(beat * tune.beat + rng.uniform(0, 0.03) * SR)
            place(out, speak(rng, speaker, segments, contour), at, rng.uniform(0.7, 1.0), pan)
        length = sum(segment.length for segment in segments)
        beat += np.ceil(length * SR / tune.beat) + float(rng.choice([0, 1, 2, 4]))
    return out


def _crowd(rng: Rng, tune: Tune, count: int) -> Array:
    """Many voices at once: a dozen phrases, heard again and again at other pitches and places."""
    speakers = [Speaker.draw(rng) for _ in range(9)]
    phrases = [speak(rng, one, draw_phrase(rng, one.pace, int(rng.integers(4, 12)))) for one in speakers]
    out = np.zeros((2, count), np.float32)
    for at in rng.integers(-SR, count, round(rng.uniform(1.0, 4.5) * count / SR)):
        phrase = varispeed(phrases[rng.integers(len(phrases))], rng.uniform(0.85, 1.18))
        place(out, phrase, int(at), rng.uniform(0.15, 1.0), rng.uniform(-0.9, 0.9))
    return filtered(out, rng.uniform(2500, 9000), order=1)


SPEECHES = ("talk", "dialogue", "whisper", "song", "vocal group", "crowd")


def speech(rng: Rng, tune: Tune, count: int, variety: str) -> Array:
    """One of `SPEECHES` [2, T]."""
    if variety in ("song", "vocal group"):
        return _song(rng, tune, count, 1 if variety == "song" else 3)
    if variety == "crowd":
        return _crowd(rng, tune, count)
    return _talk(rng, tune, count, 2 if variety == "dialogue" else 1, variety == "whisper")
