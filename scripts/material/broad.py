"""The plan of a broad track: which layers, how they are coloured, how loud it all is, before a sample is made.

Broad tracks teach a codec what jungle does not hold: held tones, single notes, voices, weather, near silence.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import held, noises, notes, percussion, speech, sweeps
from .dsp import SR, Array, Rng, log_uniform, rng_of
from .tune import Tune

Player = Callable[[Rng, Tune, int, str], Array]  # dice, tune, samples, variety -> sound [2, T]

KINDS: dict[str, tuple[Player, tuple[str, ...]]] = {
    "drone": (held.drone, tuple(held.DRONES)),
    "pluck": (notes.pluck, notes.PLUCKS),
    "bell": (notes.bell, notes.BELLS),
    "speech": (speech.speech, speech.SPEECHES),
    "noise": (noises.texture, tuple(noises.NOISES)),
    "percussion": (percussion.percussion, percussion.PERCUSSIONS),
    "sweep": (sweeps.sweep, tuple(sweeps.SWEEPS)),
    "pad": (held.pad, held.PAD_KINDS),
}
COLOURS = {  # and how often each is taken
    "plain": 0.33,
    "bright": 0.14,
    "low-passed": 0.08,
    "high-passed": 0.05,
    "telephone": 0.05,
    "lo-fi": 0.06,
    "tape": 0.08,
    "tremolo": 0.06,
    "driven": 0.05,
    "mono": 0.04,
    "wide": 0.06,
}
SPACES = {"dry": 0.36, "room": 0.26, "hall": 0.23, "echo": 0.15}
# Eight tracks in a row share these out: how they end up, and how many layers they have.
FINISHES = ("natural",) * 5 + ("quiet",) + ("limited hard",) * 2
SIZES = (1, 1, 1, 2, 2, 3, 3, 4)
LEVELS = {"natural": (-28.0, -14.0), "quiet": (-42.0, -30.0), "limited hard": (-11.0, -7.0)}  # dBFS RMS
SHORTEST, LONGEST = 20.0, 60.0  # seconds
FEWEST_SECONDS = 5.0  # of a track that is shortened
UNPITCHED = ("gong", "talk", "dialogue", "whisper", "crowd")
VERSION = 2  # of the sound: goes up whenever the same seed gives other samples


@dataclass(frozen=True)
class Layer:
    """One sound of a track.

    Attributes:
        level: dB under the leading layer.
        start, stop: the part of the track it plays in, 0 to 1.
        colour: one of `COLOURS`.
        space: one of `SPACES`.
    """

    kind: str
    variety: str
    level: float
    start: float
    stop: float
    colour: str
    space: str

    @property
    def pitched(self) -> bool:
        """Whether it keeps to the track's key."""
        if self.kind in ("drone", "pluck", "bell", "pad"):
            return self.variety not in UNPITCHED
        return self.variety in ("song", "vocal group", "theremin")

    @property
    def words(self) -> str:
        """As a listener might put it, e.g. 'low-passed church bell in a hall'."""
        colour = {"plain": "", "mono": "", "driven": "distorted"}.get(self.colour, self.colour)
        space = {"dry": "", "room": "in a room", "hall": "in a hall", "echo": "with echoes"}[self.space]
        return " ".join(word for word in (colour, self.variety, space) if word)


@dataclass(frozen=True)
class Plan:
    """Everything that makes a track this one; the sound follows from it bit for bit.

    Attributes:
        level: RMS in dBFS while it plays, unless its peaks forbid it.
        top: Hz above which the whole track is cut, None for all of the band.
        floor: RMS of the hiss under everything in dBFS, None for digital silence.
        slope: dB by which the track grows (above 0) or dies away (below 0) from end to end.
    """

    seed: int
    index: int
    length: float
    tune: Tune
    layers: tuple[Layer, ...]
    finish: str
    level: float
    top: float | None
    floor: float | None
    slope: float

    @property
    def count(self) -> int:
        """Samples of the finished file."""
        return round(self.length * SR)

    @property
    def seconds(self) -> float:
        """Length of the finished file."""
        return self.count / SR

    @property
    def name(self) -> str:
        """Stem of the file."""
        return f"broad_{self.seed}_{self.index:03d}"

    @property
    def caption(self) -> str:
        """A few words for a progress bar."""
        return " + ".join(layer.variety for layer in self.layers)

    @property
    def key(self) -> str | None:
        """The key, if a layer keeps to it."""
        return self.tune.key.name if any(layer.pitched for layer in self.layers) else None

    def shortened(self, seconds: float) -> "Plan | None":
        """The same track made `seconds` long; None if that is too little and the set has others."""
        if seconds < FEWEST_SECONDS and self.index:
            return None
        return replace(self, length=max(FEWEST_SECONDS, seconds))

    def describe(self) -> dict[str, Any]:
        """The JSON beside a track: what music data sets hold, and how to make the same track again."""
        lead, *others = self.layers
        text = lead.words
        text += f" with {', '.join(layer.words for layer in others)}" if others else ""
        text += f" in {self.key}" if self.key else ""
        text += ("; growing" if self.slope > 0 else "; dying away") if self.slope else ""
        text += f"; cut above {self.top / 1000:.1f} kHz" if self.top else ""
        text += {"natural": "", "quiet": "; very quiet", "limited hard": "; loud, limited hard"}[self.finish]
        words = [word for layer in self.layers for word in (layer.kind, layer.variety)]
        return {
            "title": f"Broad {self.seed}-{self.index:03d}",
            "artist": "make_jungle",
            "key": self.key,
            "bpm": None,
            "genre": "experimental",
            "moods": [{"natural": "calm", "quiet": "very quiet", "limited hard": "loud"}[self.finish]],
            "keywords": list(dict.fromkeys(words)),
            "description": f"{text[0].upper()}{text[1:]}.",
            "name": self.name,
            "instrument": lead.variety if not others else "Mix",
            "kind": lead.kind,
            "seconds": round(self.seconds, 3),
            "target_level_dbfs": self.level,
            "layers": [vars(layer) for layer in self.layers],
            "generator": {
                "script": "make_jungle",
                "mode": "broad",
                "version": VERSION,
                "seed": self.seed,
                "track": self.index,
            },
        }

    def rng(self, *words: int | str) -> Rng:
        """Dice for one purpose of this track."""
        return rng_of(self.seed, self.index, "broad", *words)


def _dealt(hand: tuple[Any, ...], index: int, *words: int | str) -> Any:
    """Card `index` of endless hands, each dealt in an order of its own: no short run lacks what is in the hand."""
    order = rng_of(*words, index // len(hand)).permutation(len(hand))
    return hand[order[index % len(hand)]]


def _layer(rng: Rng, kind: str, variety: str, leads: bool) -> Layer:
    start, stop = 0.0, 1.0
    if not leads and rng.random() < 0.6:
        start, stop = rng.uniform(0.0, 0.5), rng.uniform(0.65, 1.0)
    return Layer(
        kind=kind,
        variety=variety,
        level=0.0 if leads else float(np.round(rng.uniform(-22.0, 0.0), 1)),
        start=float(np.round(start, 3)),
        stop=float(np.round(stop, 3)),
        colour=str(rng.choice(list(COLOURS), p=list(COLOURS.values()))),
        space=str(rng.choice(list(SPACES), p=list(SPACES.values()))),
    )


def draw_plan(seed: int, index: int) -> Plan:
    """Track number `index` of the set `seed`; depends on nothing else."""
    rng = rng_of(seed, index, "broad plan")
    lead = _dealt(tuple(KINDS), index, seed, "broad leads")
    kinds = [lead, *rng.permutation([kind for kind in KINDS if kind != lead]).tolist()]
    # A kind leads once in eight tracks; its varieties take turns too.
    varieties = [_dealt(KINDS[lead][1], index // len(KINDS), seed, "broad", lead)]
    varieties += [str(rng.choice(KINDS[kind][1])) for kind in kinds[1:]]
    size = _dealt(SIZES, index, seed, "broad sizes")
    finish = _dealt(FINISHES, index, seed, "broad finishes")
    low, high = LEVELS[finish]
    return Plan(
        seed=seed,
        index=index,
        length=float(np.round(rng.uniform(SHORTEST, LONGEST), 2)),
        tune=Tune.draw(rng),
        layers=tuple(_layer(rng, kinds[n], varieties[n], n == 0) for n in range(size)),
        finish=finish,
        level=float(np.round(rng.uniform(low, high), 1)),
        top=float(np.round(log_uniform(rng, 3000, 15_000), -1)) if rng.random() < 0.2 else None,
        floor=float(np.round(rng.uniform(-84.0, -58.0), 1)) if rng.random() < 0.55 else None,
        slope=float(np.round(rng.choice([-1, 1]) * rng.uniform(8.0, 30.0), 1)) if rng.random() < 0.15 else 0.0,
    )
