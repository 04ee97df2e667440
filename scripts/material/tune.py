"""What the parts of a track agree upon: key, tempo, chords; and the figures that are played on them."""

from dataclasses import dataclass

import numpy as np

from .dsp import SR, Rng

NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
MODES = {"minor": (0, 2, 3, 5, 7, 8, 10), "dorian": (0, 2, 3, 5, 7, 9, 10), "phrygian": (0, 1, 3, 5, 7, 8, 10)}
# Scales that no jungle is drawn in.
OTHERS = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "minor pentatonic": (0, 3, 5, 7, 10),
    "whole tone": (0, 2, 4, 6, 8, 10),
}
SCALES: dict[str, tuple[int, ...]] = {**MODES, **OTHERS}
# Chords of a phrase as steps of the scale (0 = the tonic), each held for the phrase's length divided by their number.
PROGRESSIONS: tuple[tuple[int, ...], ...] = (
    *((0,), (0, 5), (0, 3), (0, 0, 5, 6), (0, 6, 5, 6), (0, 2, 5, 4), (0, 4, 5, 3), (0, 1), (0, 5, 3, 6)),
    (0, 0, 3, 4),
)
SHAPES = ((0, 2, 4), (0, 2, 4, 6), (0, 2, 4, 6, 8), (0, 4, 6, 8), (0, 3, 4, 6))
# Lengths in beats; a motif is a chain of these.
CELLS: tuple[tuple[float, ...], ...] = (
    *((1,), (1, 1), (0.5, 0.5), (1.5, 0.5), (0.25, 0.25, 0.5), (0.5, 0.25, 0.25), (2,), (0.75, 0.25)),
    *((0.75, 0.75, 0.5), (1 / 3, 1 / 3, 1 / 3), (3,)),
)


@dataclass(frozen=True)
class Key:
    """A tonic (0 = C) and a mode's name."""

    tonic: int
    mode: str

    @property
    def name(self) -> str:
        """As people write it, e.g. 'F# minor'."""
        return f"{NAMES[self.tonic]} {self.mode}"

    def note(self, degree: int, octave: int) -> int:
        """MIDI number of a step of the scale, counted on through the octaves (octave 4 holds middle C)."""
        scale = SCALES[self.mode]
        return 12 * (octave + 1 + degree // len(scale)) + self.tonic + scale[degree % len(scale)]

    def chord(self, degree: int, shape: tuple[int, ...], low: int) -> list[int]:
        """MIDI notes of a chord in thirds on `degree`, each moved by octaves to just above `low`."""
        floors = [low if index < 3 else low + 7 for index in range(len(shape))]
        return sorted({floor + (self.note(degree + third, 3) - floor) % 12 for floor, third in zip(floors, shape)})


@dataclass(frozen=True)
class Note:
    """One note: first sample, length in seconds, MIDI pitch (a fraction is allowed), velocity in 0..1.

    `slide` says that its pitch glides in from the one before.
    """

    at: int
    length: float
    pitch: float
    velocity: float
    slide: bool = False


@dataclass(frozen=True)
class Tune:
    """Key, tempo and chords of a track.

    Attributes:
        cents: how far the track is from A = 440 Hz; no two records are tuned alike.
        chords: steps of the scale, each held for `chord_beats` beats, then from the start.
        shape: the chord's notes as steps above its root.
    """

    key: Key
    bpm: float
    cents: float
    chords: tuple[int, ...]
    chord_beats: int
    shape: tuple[int, ...]

    @classmethod
    def draw(cls, rng: Rng) -> "Tune":
        """Any key, 50 to 170 BPM."""
        return cls(
            key=Key(int(rng.integers(12)), str(rng.choice(list(SCALES)))),
            bpm=float(np.round(50.0 * 2.0 ** rng.uniform(0.0, 1.76), 1)),
            cents=float(np.round(rng.normal(0.0, 14.0))),
            chords=PROGRESSIONS[rng.integers(len(PROGRESSIONS))],
            chord_beats=int(rng.choice([2, 4, 4, 8])),
            shape=SHAPES[rng.integers(len(SHAPES))],
        )

    @property
    def beat(self) -> float:
        """Samples in a beat (not a whole number)."""
        return SR * 60.0 / self.bpm

    def degree(self, beat: float) -> int:
        """The chord at a beat, as a step of the scale."""
        return self.chords[int(beat // self.chord_beats) % len(self.chords)]

    def pitch(self, degree: int, octave: int) -> float:
        """MIDI pitch of a step of the scale (octave 4 holds middle C), with the track's tuning."""
        return self.key.note(degree, octave) + self.cents / 100.0

    def chord(self, beat: float, low: int) -> list[float]:
        """Pitches of the chord at a beat, from just above the MIDI note `low` on."""
        return [note + self.cents / 100.0 for note in self.key.chord(self.degree(beat), self.shape, low)]


def moments(rng: Rng, count: int, pause: float) -> list[float]:
    """Samples at which something happens in free time, `pause` seconds apart on average, a tenth at least."""
    at = [rng.uniform(0.0, pause)]
    while at[-1] * SR < count:
        at.append(at[-1] + 0.12 + rng.exponential(pause))
    return [time * SR for time in at[:-1]]


def melody(rng: Rng, tune: Tune, count: int, octave: int) -> list[Note]:
    """A motif of a few bars that comes back on the chords of the hour, now and then changed, with rests between."""
    motif = _motif(rng, bars=int(rng.choice([1, 2, 2])))
    length = float(np.ceil(sum(beats for beats, _, _ in motif)))
    rest = float(rng.choice([0, 0, 1, 2, 4]))
    loose = rng.uniform(0.0, 0.02)
    notes: list[Note] = []
    start = 0.0
    while start * tune.beat < count:
        if rng.random() < 0.3:
            motif = [*motif[:-2], *_motif(rng, 1)[:2]]
        at = start
        for beats, step, force in motif:
            if force > 0:
                where = max(0, round((at + rng.normal(0, loose)) * tune.beat))
                pitch = tune.pitch(tune.degree(at) + step, octave)
                held = beats * tune.beat / SR * rng.uniform(0.8, 1.3)
                notes.append(Note(where, held, pitch, float(np.clip(force * rng.normal(1, 0.1), 0.1, 1))))
            at += beats
        start += length + rest
    return notes


def _motif(rng: Rng, bars: int) -> list[tuple[float, int, float]]:
    """(beats, steps above the chord's root, force), force 0 for a rest."""
    motif: list[tuple[float, int, float]] = []
    step, left = int(rng.integers(0, 5)), 4.0 * bars
    while left > 0.1:
        for beats in CELLS[rng.integers(len(CELLS))]:
            strong = abs(left - round(left)) < 0.01
            step = int(np.clip(step + rng.choice([-2, -1, -1, 0, 1, 1, 2, 4, -3]), -4, 9))
            force = 0.0 if rng.random() < 0.12 else rng.uniform(0.7, 1.0) if strong else rng.uniform(0.4, 0.85)
            motif.append((beats, step, force))
            left -= beats
    return motif


def arpeggio(rng: Rng, tune: Tune, count: int, octave: int) -> list[Note]:
    """The chords note by note in even time, in an order that stays, with accents and gaps."""
    pace = float(rng.choice([0.25, 0.25, 1 / 3, 0.5, 0.5, 1.0]))
    while pace * 60.0 / tune.bpm < 0.09:
        pace *= 2.0
    size = int(rng.integers(3, 9))
    order = rng.permutation(size) if rng.random() < 0.3 else np.arange(size)
    order = np.concatenate([order, order[-2:0:-1]]) if rng.random() < 0.5 else order[:: int(rng.choice([1, -1]))]
    accents = rng.uniform(0.45, 1.0, int(rng.choice([3, 4, 8])))
    gap, ring = rng.uniform(0.0, 0.25), rng.uniform(0.8, 4.0)
    notes = []
    for number in range(int(count / tune.beat / pace) + 1):
        if rng.random() >= gap:
            chord = tune.chord(number * pace, 12 * (octave + 1))
            octaves, index = divmod(int(order[number % order.size]), len(chord))
            force = float(accents[number % accents.size] * rng.uniform(0.85, 1.0))
            at = max(0, round(number * pace * tune.beat + rng.normal(0, 0.004) * SR))
            notes.append(Note(at, ring * pace * tune.beat / SR, chord[index] + 12 * octaves, force))
    return notes


def sparse(rng: Rng, tune: Tune, count: int, octave: int) -> list[Note]:
    """Single notes and small clusters in free time, with seconds of nothing between some of them."""
    notes: list[Note] = []
    for at in moments(rng, count, rng.uniform(0.5, 2.5)):
        degree = int(rng.integers(-3, 10))
        for voice in range(int(rng.choice([1, 1, 1, 2, 3]))):
            where = round(at + voice * rng.uniform(0.0, 0.09) * SR)
            pitch = tune.pitch(degree + 2 * voice, octave)
            notes.append(Note(where, rng.uniform(1.0, 4.0), pitch, rng.uniform(0.25, 1.0)))
    return notes


def strums(rng: Rng, tune: Tune, count: int, octave: int) -> list[Note]:
    """Chords struck from the bottom up or the top down, in a rhythm of one bar."""
    places = sorted({0.0, *rng.choice(np.arange(1, 8) / 2, int(rng.integers(1, 5)), False).tolist()})
    spread = rng.uniform(0.006, 0.045)
    notes = []
    for bar in range(int(count / tune.beat / 4) + 1):
        for number, place in enumerate(places):
            at, up = 4 * bar + place, number % 2 == 1
            for voice, pitch in enumerate(sorted(tune.chord(at, 12 * (octave + 1) - 5), reverse=up)):
                where = round(at * tune.beat + voice * spread * SR * rng.uniform(0.8, 1.2))
                force = rng.uniform(0.5, 0.7) if up else rng.uniform(0.7, 1.0)
                notes.append(Note(where, rng.uniform(0.7, 2.0), pitch, force))
    return notes


FIGURES = {"melody": melody, "arpeggio": arpeggio, "sparse": sparse, "strums": strums}


def figure(rng: Rng, tune: Tune, count: int, octave: int, chances: dict[str, float]) -> tuple[str, list[Note]]:
    """One of `FIGURES`, taken as often as `chances` say: its name and notes, all of which begin before `count`."""
    name = str(rng.choice(list(chances), p=list(chances.values())))
    return name, [note for note in FIGURES[name](rng, tune, count, octave) if note.at < count]
