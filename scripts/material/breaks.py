"""Breaks: funk grooves played on a kit in a room, put on tape, and cut into hits."""

from dataclasses import dataclass

import numpy as np

from .drums import Kit
from .dsp import SR, Array, Rng, filtered, peaked, place, tilted, varispeed
from .effects import compressed, crushed, reverberate, room_response, tape, wow

# One character per 16th. Kick: x. Snare: x, g = ghost, r = rim. Toms: 0 to 2, low to high.
# Top: h = closed hat, H = accent, o = open, r = ride, R = ride accent.
KICKS = (
    "x.x.......xx....",
    "x.x......x.x....",
    "x..x..x...x.....",
    "x......x..x..x..",
    "x.....x...xx..x.",
    "x.x...x..x....x.",
    "x..x......x.x...",
    "xx........x..x..",
    "x.......x.x.....",
)
SNARES = (
    "....x..g.g..x..g",
    "....x..g.g.gx..g",
    "....x....g..x...",
    "..g.x..g....x.g.",
    "....x.g..g.gx.gg",
    ".g..x..g.g..x.x.",
    "....x.gg.g..x..g",
    "..r.x..r..r.x..r",
    "....x..r.r..x.r.",
)
TURNED_SNARES = ("....x..g.g....x.", ".g..x..g.g.gx.xx", "....x..x..x.x..x", "....x.g...x..xgg")
TOPS = (
    "h.h.h.h.h.h.h.h.",
    "H.h.H.h.H.h.H.o.",
    "hhhhhhhhhhhhhhhh",
    "r.r.r.r.r.r.r.r.",
    "R.r.r.R.r.r.R.r.",
    "H.hhH.h.HhhhH.oh",
    "R.rrR.r.R.rrR.r.",
    "h.o.h.h.h.o.h.h.",
)
SIDES = ("", "", "s.s.s.s.s.s.s.s.", "..c..c....c..c.c", "c..c..c...c..c..", "ssSsssSsssSsssSs", "...c....cc....c.")
TOMS = ("", "", "..........2.1.0.", "........22.11.00", "..............10", "......2..1..0...")
CRASHES = ("", "..........x.....")
# What a character of a line strikes: the voice, and its velocity from and to.
VOICES: dict[str, dict[str, tuple[str, float, float]]] = {
    "kick": {"x": ("kick", 0.7, 0.95)},
    "snare": {"x": ("snare", 0.75, 0.95), "g": ("ghost", 0.2, 0.6), "r": ("rim", 0.2, 0.6)},
    "top": {"h": ("hat", 0.45, 0.55), "H": ("hat", 0.75, 0.9), "o": ("open", 0.6, 0.7)},
    "side": {"s": ("shaker", 0.5, 0.6), "S": ("shaker", 0.85, 0.95), "c": ("conga", 0.3, 1.0)},
    "crash": {"x": ("crash", 0.85, 0.95)},
    "toms": {number: (f"tom{number}", 0.5, 0.9) for number in "012"},
}
VOICES["top"] |= {"r": ("ride", 0.5, 0.6), "R": ("ride", 0.75, 0.9)}
LINES = {"kick": KICKS, "snare": SNARES, "top": TOPS, "side": SIDES}
STRONG = (0, 4, 10, 12)  # 16ths of a bar that are struck hardest


@dataclass
class Break:
    """A break at the track's tempo.

    Attributes:
        sound: [2, T], whole bars long.
        step: length of a 16th in samples (not a whole number).
        marks: for every 16th what is struck on it:
            'K' kick, 'S' snare, 'g' ghost note, 'o' open hat or crash, 'h' hat or ride, '.' nothing.
    """

    sound: Array
    step: float
    marks: str

    def slice(self, start: float, length: float) -> Array:
        """The sound [2, N] of `length` 16ths from the 16th `start` on; begins a little early, as hits do."""
        first, stop = round(start * self.step) - LEAD, round((start + length) * self.step) - LEAD // 2
        return np.pad(self.sound[:, max(0, first) : stop], [(0, 0), (max(0, -first), 0)])

    @property
    def bars(self) -> int:
        """Bars of the loop."""
        return len(self.marks) // 16

    def find(self, mark: str) -> list[int]:
        """The 16ths on which `mark` is struck."""
        return [index for index, other in enumerate(self.marks) if other == mark]


LEAD = round(0.004 * SR)  # slices start this many samples before their grid line


def draw_groove(rng: Rng, bars: int) -> list[dict[str, str]]:
    """`bars` bars of a drummer's groove: one idea, varied, turned around at the end."""
    idea = {name: str(rng.choice(lines)) for name, lines in LINES.items()}
    groove = []
    for bar in range(bars):
        if bar and rng.random() < 0.35:
            idea["kick"] = str(rng.choice(KICKS))
        changed = {"snare": str(rng.choice(SNARES))} if rng.random() < 0.4 else {}
        if bar == bars - 1:
            ends = {"snare": TURNED_SNARES, "toms": TOMS, "crash": CRASHES}
            changed = {name: str(rng.choice(lines)) for name, lines in ends.items()}
        groove.append({**idea, **changed})
    return groove


def _mark(struck: list[str]) -> str:
    """The mark of a 16th on which these voices are struck."""
    marks = {"snare": "S", "kick": "K", "crash": "o", "open": "o", "ghost": "g", "rim": "g", "hat": "h", "ride": "h"}
    return next((mark for voice, mark in marks.items() if voice in struck), ".")


def record_break(rng: Rng, kit: Kit, groove: list[dict[str, str]], bpm: float, played_at: float) -> Break:
    """Play `groove` on `kit` at `played_at` BPM through room, desk and tape; speed it up to `bpm` as a sampler does."""
    step = SR * 60.0 / played_at / 4.0
    steps = 16 * len(groove)
    count = round(steps * step)
    dry = np.zeros((2, count + SR), np.float32)
    swing = rng.choice([0.0, 0.0, 0.04, 0.08, 0.13]) * step
    loose = rng.uniform(0.0005, 0.0025) * SR
    pan, top = rng.uniform(-0.45, 0.45), rng.uniform(0.45, 0.85)
    gains = {"kick": rng.uniform(0.85, 1.05), "snare": rng.uniform(0.8, 1.05), "top": top, "crash": 1.2 * top}
    gains |= {"side": 0.28, "toms": 0.7}
    pans = {"snare": 0.05, "top": pan, "crash": -pan, "side": -pan}
    marks = ""
    for index in range(steps):
        struck = []
        for name, line in groove[index // 16].items():
            if line and line[index % 16] in VOICES[name]:
                voice, low, high = VOICES[name][line[index % 16]]
                velocity = (high if index % 16 in STRONG else rng.uniform(low, high)) * rng.normal(1.0, 0.07)
                late = (swing if index % 2 else 0.0) + np.clip(rng.normal(0, loose), -0.003 * SR, 0.004 * SR)
                sound = kit.hit(voice, float(np.clip(velocity, 0.05, 1.0)), rng)
                place(dry, sound, round(index * step + late) + LEAD, gains[name], pans.get(name, 0.0))
                struck.append(voice)
        marks += _mark(struck)
    # The room rings over the loop's end into its start, as it does when a loop is cut from the middle of a performance.
    dry[:, :SR] += dry[:, count:]
    sound = varispeed(_on_record(rng, dry[:, :count]), bpm / played_at)
    exact = SR * 60.0 / bpm / 4.0
    fitted = np.zeros((2, round(steps * exact)), np.float32)
    place(fitted, sound, 0)
    return Break(np.roll(fitted, -LEAD // 4, axis=1), exact, marks)


def _on_record(rng: Rng, dry: Array) -> Array:
    """The room around the kit, the desk's squeeze, tape, and an old sampler's converters."""
    response = room_response(rng, rng.uniform(0.15, 0.55), rng.uniform(2500, 6500))
    doubled = np.concatenate([dry, dry], axis=1)
    wet = reverberate(filtered(doubled, 160, "highpass"), response)[:, dry.shape[1] :]
    sound = dry + np.float32(rng.uniform(0.06, 0.3)) * wet
    sound = tilted(sound, "peak", rng.uniform(180, 420), rng.uniform(-2, 4), 1.0)
    sound = tilted(sound, "high", rng.uniform(4500, 7500), rng.uniform(-4, 2))
    sound = tilted(sound, "peak", rng.uniform(800, 2200), rng.uniform(0, 5), 0.7)
    sound = filtered(sound, rng.uniform(30, 55), "highpass")
    sound = compressed(peaked(sound), rng.uniform(-14, -9), rng.uniform(2, 4), attack=rng.uniform(0.006, 0.02))
    sound = tape(sound, rng.uniform(1.0, 2.2), rng.uniform(11_000, 17_000))
    sound = wow(sound, rng, rng.uniform(0.0, 0.0004))
    return crushed(peaked(sound), int(rng.choice([10, 11, 12, 12])), int(rng.choice([1, 1, 1, 2])))
