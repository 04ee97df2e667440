"""The plan of a jungle track: tempo, key, sections and what plays in each, before a sample is made."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import bass, drums, harmony
from .dsp import SR, Rng, rng_of
from .tune import MODES, PROGRESSIONS, SHAPES, Key, Tune

# Sections and their lengths in bars; each form is 32 to 64 bars.
FORMS = (
    (("intro", 8), ("drop", 8), ("breakdown", 8), ("drop 2", 8)),
    (("intro", 8), ("drop", 16), ("breakdown", 8), ("outro", 8)),
    (("drop", 8), ("breakdown", 8), ("drop 2", 16), ("outro", 8)),
    (("intro", 8), ("drop", 8), ("breakdown", 8), ("drop 2", 8), ("outro", 8)),
    (("intro", 8), ("drop", 16), ("breakdown", 8), ("drop 2", 16)),
    (("intro", 8), ("drop", 16), ("breakdown", 8), ("drop 2", 8), ("outro", 8)),
    (("intro", 16), ("drop", 16), ("breakdown", 8), ("drop 2", 16)),
    (("intro", 8), ("drop", 16), ("breakdown", 8), ("drop 2", 16), ("outro", 8)),
    (("intro", 8), ("drop", 16), ("breakdown", 16), ("drop 2", 16), ("outro", 8)),
)
# What plays in a section: what its kind cannot do without, and what some of them have.
PARTS = {
    "intro": ({"atmosphere", "muffled", "pad", "riser"}, {"bells", "stab echo", "siren", "tops"}),
    "drop": ({"break", "bass", "impact"}, {"pad", "stab", "tops", "atmosphere", "siren", "shout"}),
    "breakdown": ({"pad", "atmosphere", "riser", "thin"}, {"bells", "bass", "stab echo", "siren", "impact", "shout"}),
    "drop 2": ({"break", "bass", "impact", "layer"}, {"pad", "stab", "stab echo", "tops", "bells", "shout"}),
    "outro": ({"break", "atmosphere", "fade"}, {"pad", "bass", "stab echo", "bells", "impact"}),
}
ATMOSPHERES = ("rain", "wind", "fire crackle", "machine")
SHORTEST, LONGEST = 45.0, 95.0  # seconds
FEWEST_BARS = 4
TAIL = 1.2  # seconds that ring on after the last bar
VERSION = 2  # of the sound: goes up whenever the same seed gives other samples


@dataclass(frozen=True)
class Section:
    """Bars that belong together, the parts that play in them, and how wildly breaks are edited (0..1)."""

    kind: str
    first: int
    bars: int
    parts: frozenset[str]
    madness: float


@dataclass(frozen=True)
class Plan:
    """Everything that makes a track this one; the sound follows from it bit for bit.

    Attributes:
        bass_sounds: of all sections, and of the second drop.
        played_at: BPM at which the drummers of the three breaks played.
        loudness: LUFS of the whole.
        drive: into the last tape.
    """

    seed: int
    index: int
    tune: Tune
    sections: tuple[Section, ...]
    pad: str
    stab: str
    bass_sounds: tuple[str, str]
    atmosphere: str
    played_at: tuple[float, ...]
    loudness: float
    drive: float
    kits: tuple[drums.KitShape, ...]

    @property
    def bars(self) -> int:
        """Bars of the whole track."""
        return self.sections[-1].first + self.sections[-1].bars

    @property
    def bar(self) -> float:
        """Samples in a bar (not a whole number)."""
        return 4 * self.tune.beat

    @property
    def count(self) -> int:
        """Samples of the finished file."""
        return round(self.bars * self.bar + TAIL * SR)

    @property
    def seconds(self) -> float:
        """Length of the finished file."""
        return self.count / SR

    @property
    def name(self) -> str:
        """Stem of the file."""
        return f"jungle_{self.seed}_{self.index:03d}"

    @property
    def caption(self) -> str:
        """A few words for a progress bar."""
        return f"{self.tune.bpm:g} BPM, {self.tune.key.name}"

    def rng(self, *words: int | str) -> Rng:
        """Dice for one purpose of this track."""
        return rng_of(self.seed, self.index, *words)

    def span(self, section: Section) -> tuple[int, int]:
        """First sample of a section and the one after its last."""
        return round(section.first * self.bar), round((section.first + section.bars) * self.bar)

    def playing(self, part: str, every: int) -> Iterator[tuple[Section, int]]:
        """The sections in which `part` plays, with every `every`-th of their bars, counted from the track's start."""
        for section in self.sections:
            if part in section.parts:
                for bar in range(section.first, section.first + section.bars, every):
                    yield section, bar

    def bass_of(self, kind: str) -> str:
        """The bass sound of a kind of section: the second drop has one of its own."""
        return self.bass_sounds[kind == "drop 2"]

    def shortened(self, seconds: float) -> "Plan | None":
        """The first bars, as many as fit `seconds` best; None if that is too little and the set has others."""
        bars = round(seconds * SR / self.bar)
        if bars < FEWEST_BARS and self.index:
            return None
        bars = max(FEWEST_BARS, bars)
        kept = [replace(s, bars=min(s.bars, bars - s.first)) for s in self.sections if s.first < bars]
        return replace(self, sections=tuple(kept))

    def describe(self) -> dict[str, Any]:
        """The JSON beside a track: what music data sets hold, and how to make the same track again."""
        played = frozenset().union(*(section.parts for section in self.sections))
        kinds = sorted({section.kind for section in self.sections if "bass" in section.parts})
        instruments = list(dict.fromkeys(f"{self.bass_of(kind)} bass" for kind in kinds))
        instruments += [f"{self.pad} pad"] if "pad" in played else []
        instruments += [f"{self.stab} stab"] if played & {"stab", "stab echo"} else []
        instruments += [word for word in ("bells", "siren") if word in played]
        instruments += [self.atmosphere] if "atmosphere" in played else []
        kit, key, bpm = self.kits[0].words, self.tune.key, self.tune.bpm
        wild = max(section.madness for section in self.sections) > 0.7
        moods = ["deep" if key.mode == "dorian" else "dark", "frantic" if wild else "rolling"]
        return {
            "title": f"Jungle {self.seed}-{self.index:03d}",
            "artist": "make_jungle",
            "key": key.name,
            "bpm": bpm,
            "genre": "jungle",
            "moods": moods,
            "keywords": ["jungle", "breakbeat", "drum and bass", "chopped breaks", *kit, *instruments],
            "description": f"{moods[0].capitalize()}, {moods[1]} jungle at {bpm:g} BPM in {key.name}: chopped breaks "
            f"({', '.join(kit)}) with {', '.join(instruments) or 'nothing else'}.",
            "name": self.name,
            "instrument": "Mix",
            "bars": self.bars,
            "seconds": round(self.seconds, 3),
            "sections": [
                {"name": section.kind, "bar": section.first, "bars": section.bars} for section in self.sections
            ],
            "generator": {"script": "make_jungle", "version": VERSION, "seed": self.seed, "track": self.index},
        }


def draw_plan(seed: int, index: int, bpm: float | None = None) -> Plan:
    """Track number `index` of the set `seed`, at its own tempo or at that given; depends on nothing else."""
    rng = rng_of(seed, index, "plan")
    own = float(np.round(rng.uniform(160.0, 175.0), 1))
    bpm = own if bpm is None else bpm
    longest = LONGEST - TAIL
    forms = [form for form in FORMS if SHORTEST <= sum(bars for _, bars in form) * 240.0 / bpm <= longest]
    sections: list[Section] = []
    for number, (kind, bars) in enumerate(forms[rng.integers(len(forms))]):
        first = sections[-1].first + sections[-1].bars if sections else 0
        always, maybe = PARTS[kind]
        dice = rng_of(seed, index, "parts", number)
        parts = frozenset(always | {part for part in sorted(maybe) if dice.random() < 0.55})
        drop, second, other = rng.uniform((0.25, 0.5, 0.1), (0.65, 1.0, 0.4)).tolist()
        sections.append(Section(kind, first, bars, parts, {"drop": drop, "drop 2": second}.get(kind, other)))
    mode = str(rng.choice(list(MODES), p=[0.6, 0.25, 0.15]))
    sounds = rng.choice(bass.SOUNDS, 2, p=[0.25, 0.35, 0.15, 0.1, 0.15])
    key, chords = Key(int(rng.integers(12)), mode), PROGRESSIONS[rng.integers(len(PROGRESSIONS))]
    beats, shape = 4 * int(rng.choice([1, 2, 2, 4])), SHAPES[rng.integers(len(SHAPES))]
    return Plan(
        seed=seed,
        index=index,
        tune=Tune(key, bpm, 0.0, chords, beats, shape),
        sections=tuple(sections),
        pad=str(rng.choice(harmony.PADS)),
        stab=str(rng.choice(harmony.STABS)),
        bass_sounds=(str(sounds[0]), str(sounds[1])),
        atmosphere=str(rng.choice(ATMOSPHERES)),
        played_at=tuple(float(x) for x in rng.uniform(118.0, 150.0, 3)),
        loudness=float(rng.uniform(-11.2, -9.4)),
        drive=float(rng.uniform(1.1, 1.9)),
        kits=tuple(drums.KitShape.draw(rng_of(seed, index, "kit", number)) for number in range(3)),
    )
