"""The plan of a track: tempo, key, sections and what plays in each, before a sample is made."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import bass, drums, harmony, textures
from .dsp import SR, rng_of

Rng = np.random.Generator

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
SHORTEST, LONGEST = 45.0, 95.0  # seconds
TAIL = 1.2  # seconds that ring on after the last bar


@dataclass(frozen=True)
class Section:
    """Bars that belong together and the parts that play in them."""

    kind: str
    first: int
    bars: int
    parts: frozenset[str]
    madness: float


@dataclass
class Plan:
    """Everything that makes a track this one; the sound follows from it bit for bit."""

    seed: int
    index: int
    bpm: float
    key: harmony.Key
    sections: list[Section]
    progression: tuple[int, ...]
    chord_bars: int
    shape: tuple[int, ...]
    pad: str
    stab: str
    bass_sounds: tuple[str, str]
    atmosphere: str
    played_at: list[float]
    loudness: float
    drive: float
    kits: list[drums.KitShape]

    @property
    def bars(self) -> int:
        """Bars of the whole track."""
        return self.sections[-1].first + self.sections[-1].bars

    @property
    def bar(self) -> float:
        """Samples in a bar (not a whole number)."""
        return SR * 240.0 / self.bpm

    @property
    def seconds(self) -> float:
        """Length of the finished file."""
        return self.count / SR

    @property
    def count(self) -> int:
        """Samples of the finished file."""
        return round(self.bars * self.bar + TAIL * SR)

    def rng(self, *words: int | str) -> Rng:
        """Dice for one purpose of this track."""
        return rng_of(self.seed, self.index, *words)

    @property
    def name(self) -> str:
        """Stem of the file."""
        return f"jungle_{self.seed}_{self.index:03d}"

    @property
    def caption(self) -> str:
        """A few words for a progress bar."""
        return f"{self.bpm:g} BPM, {self.key.name}"

    def span(self, section: Section) -> tuple[int, int]:
        """First sample of a section and the one after its last."""
        return round(section.first * self.bar), round((section.first + section.bars) * self.bar)

    def bass_of(self, kind: str) -> str:
        """The bass sound of a kind of section: the second drop has one of its own."""
        return self.bass_sounds[1 if kind == "drop 2" else 0]

    def degree(self, bar: int) -> int:
        """The chord of a bar, as a step of the scale."""
        return self.progression[(bar // self.chord_bars) % len(self.progression)]


def _parts(rng: Rng, kind: str) -> frozenset[str]:
    """What plays in a section; the essentials of its kind and some of the rest."""
    always, maybe = {
        "intro": ({"atmosphere", "muffled", "pad", "riser"}, {"bells", "stab echo", "siren", "tops"}),
        "drop": ({"break", "bass", "impact"}, {"pad", "stab", "tops", "atmosphere", "siren", "shout"}),
        "breakdown": (
            {"pad", "atmosphere", "riser", "thin"},
            {"bells", "bass", "stab echo", "siren", "impact", "shout"},
        ),
        "drop 2": ({"break", "bass", "impact", "layer"}, {"pad", "stab", "stab echo", "tops", "bells", "shout"}),
        "outro": ({"break", "atmosphere", "fade"}, {"pad", "bass", "stab echo", "bells", "impact"}),
    }[kind]
    return frozenset(always | {part for part in sorted(maybe) if rng.random() < 0.55})


def draw_plan(seed: int, index: int) -> Plan:
    """Track number `index` of the set `seed`; depends on nothing else."""
    rng = rng_of(seed, index, "plan")
    bpm = float(np.round(rng.uniform(160.0, 175.0), 1))
    longest = LONGEST - TAIL
    forms = [form for form in FORMS if SHORTEST <= sum(bars for _, bars in form) * 240.0 / bpm <= longest]
    form = forms[rng.integers(len(forms))]
    sections, first = [], 0
    for number, (kind, bars) in enumerate(form):
        madness = {"drop": rng.uniform(0.25, 0.65), "drop 2": rng.uniform(0.5, 1.0)}.get(kind, rng.uniform(0.1, 0.4))
        sections.append(Section(kind, first, bars, _parts(rng_of(seed, index, "parts", number), kind), float(madness)))
        first += bars
    mode = str(rng.choice(list(harmony.MODES), p=[0.6, 0.25, 0.15]))
    sounds = rng.choice(bass.SOUNDS, 2, p=[0.25, 0.35, 0.15, 0.1, 0.15])
    return Plan(
        seed=seed,
        index=index,
        bpm=bpm,
        key=harmony.Key(int(rng.integers(12)), mode),
        sections=sections,
        progression=harmony.PROGRESSIONS[rng.integers(len(harmony.PROGRESSIONS))],
        chord_bars=int(rng.choice([1, 2, 2, 4])),
        shape=harmony.SHAPES[rng.integers(len(harmony.SHAPES))],
        pad=str(rng.choice(harmony.PADS)),
        stab=str(rng.choice(harmony.STABS)),
        bass_sounds=(str(sounds[0]), str(sounds[1])),
        atmosphere=str(rng.choice(textures.ATMOSPHERES)),
        played_at=[float(x) for x in rng.uniform(118.0, 150.0, 3)],
        loudness=float(rng.uniform(-11.2, -9.4)),
        drive=float(rng.uniform(1.1, 1.9)),
        kits=[drums.KitShape.draw(rng_of(seed, index, "kit", number)) for number in range(3)],
    )


def shortened(plan: Plan, bars: int) -> Plan:
    """The first `bars` bars of a plan."""
    kept = []
    for section in plan.sections:
        if section.first < bars:
            length = min(section.bars, bars - section.first)
            kept.append(Section(section.kind, section.first, length, section.parts, section.madness))
    return Plan(**{**vars(plan), "sections": kept})


VERSION = 1  # of the sound: goes up whenever the same seed gives other samples


def describe(plan: Plan) -> dict[str, Any]:
    """The JSON beside a track: what music data sets hold, and how to make the same track again."""
    played = frozenset().union(*(section.parts for section in plan.sections))
    kinds = {section.kind for section in plan.sections if "bass" in section.parts}
    basses = [f"{plan.bass_of(kind)} bass" for kind in sorted(kinds)]
    basses = list(dict.fromkeys(basses))
    instruments = list(basses)
    if "pad" in played:
        instruments.append(f"{plan.pad} pad")
    if played & {"stab", "stab echo"}:
        instruments.append(f"{plan.stab} stab")
    instruments += [word for word in ("bells", "siren") if word in played]
    if "atmosphere" in played:
        instruments.append(plan.atmosphere)
    kit = plan.kits[0].words
    mood = "deep" if plan.key.mode == "dorian" else "dark"
    wild = max(section.madness for section in plan.sections) > 0.7
    moods = [mood, "frantic" if wild else "rolling"]
    return {
        "title": f"Jungle {plan.seed}-{plan.index:03d}",
        "artist": "make_jungle",
        "key": plan.key.name,
        "bpm": plan.bpm,
        "genre": "jungle",
        "moods": moods,
        "keywords": ["jungle", "breakbeat", "drum and bass", "chopped breaks", *kit, *instruments],
        "description": f"{mood.capitalize()}, {moods[1]} jungle at {plan.bpm:g} BPM in {plan.key.name}: chopped breaks "
        f"({', '.join(kit)}) with {', '.join(instruments) or 'nothing else'}.",
        "name": plan.name,
        "instrument": "Mix",
        "bars": plan.bars,
        "sections": [{"name": section.kind, "bar": section.first, "bars": section.bars} for section in plan.sections],
        "generator": {"script": "make_jungle", "version": VERSION, "seed": plan.seed, "track": plan.index},
    }
