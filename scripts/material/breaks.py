"""Breaks: funk grooves played on a kit in a room, put on tape, and cut into hits."""

from dataclasses import dataclass

import numpy as np

from .drums import Kit
from .dsp import SR, Array, filtered, place, tilted, varispeed
from .effects import compressed, crushed, reverberate, room_response, tape, wow

Rng = np.random.Generator

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
TURNED_SNARES = (
    "....x..g.g....x.",
    ".g..x..g.g.gx.xx",
    "....x..x..x.x..x",
    "....x.g...x..xgg",
)
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
TOP_VOICES = {"h": ("hat", 0.55), "H": ("hat", 0.9), "o": ("open", 0.7), "r": ("ride", 0.6), "R": ("ride", 0.9)}


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
        lead = LEAD
        first = round(start * self.step) - lead
        stop = round((start + length) * self.step) - lead // 2
        if first < 0:
            return np.concatenate([np.zeros((2, -first), np.float32), self.sound[:, :stop]], axis=1)
        return self.sound[:, first:stop]

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
    kick, snare, top = rng.choice(KICKS), rng.choice(SNARES), rng.choice(TOPS)
    side = rng.choice(SIDES)
    groove = []
    for bar in range(bars):
        if bar and rng.random() < 0.35:
            kick = rng.choice(KICKS)
        lines = {"kick": str(kick), "snare": str(snare), "top": str(top), "side": str(side)}
        if bar == bars - 1:
            lines["snare"] = str(rng.choice(TURNED_SNARES))
            lines["toms"] = str(rng.choice(TOMS))
            lines["crash"] = "".join("x" if step == 10 and rng.random() < 0.5 else "." for step in range(16))
        elif rng.random() < 0.4:
            lines["snare"] = str(rng.choice(SNARES))
        groove.append(lines)
    return groove


def _mark(kick: str, snare: str, top: str, crash: str) -> str:
    if snare == "x":
        return "S"
    if kick == "x":
        return "K"
    if crash == "x" or top == "o":
        return "o"
    if snare in "gr":
        return "g"
    return "h" if top != "." else "."


def record_break(rng: Rng, kit: Kit, groove: list[dict[str, str]], bpm: float, played_at: float) -> Break:
    """Play `groove` on `kit` at `played_at` BPM through room, desk and tape; speed it up to `bpm` as a sampler does."""
    step = SR * 60.0 / played_at / 4.0
    steps = 16 * len(groove)
    tail = SR
    count = round(steps * step)
    dry = np.zeros((2, count + tail), np.float32)
    swing = rng.choice([0.0, 0.0, 0.04, 0.08, 0.13]) * step
    loose = rng.uniform(0.0005, 0.0025) * SR
    hat_pan = rng.uniform(-0.45, 0.45)
    levels = {"kick": rng.uniform(0.85, 1.05), "snare": rng.uniform(0.8, 1.05), "top": rng.uniform(0.45, 0.85)}
    marks = []

    def hit(voice: str, index: int, velocity: float, gain: float, pan: float = 0.0) -> None:
        late = swing if index % 2 else 0.0
        at = round(index * step + late + np.clip(rng.normal(0, loose), -0.003 * SR, 0.004 * SR)) + LEAD
        force = float(np.clip(velocity * rng.normal(1.0, 0.07), 0.05, 1.0))
        place(dry, kit.hit(voice, force, rng), at, gain, pan)

    for index in range(steps):
        lines, at = groove[index // 16], index % 16
        kick, snare, top = lines["kick"][at], lines["snare"][at], lines["top"][at]
        crash = lines.get("crash", "." * 16)[at]
        marks.append(_mark(kick, snare, top, crash))
        if kick == "x":
            hit("kick", index, 0.95 if at in (0, 10) else 0.75, levels["kick"])
        if snare == "x":
            hit("snare", index, 0.95 if at in (4, 12) else 0.8, levels["snare"], 0.05)
        elif snare in "gr":
            hit("ghost" if snare == "g" else "rim", index, rng.uniform(0.3, 0.8), levels["snare"] * 0.75, 0.05)
        if top != ".":
            voice, velocity = TOP_VOICES[top]
            hit(voice, index, velocity * (1.0 if at % 4 == 0 else 0.85), levels["top"], hat_pan)
        if crash == "x":
            hit("crash", index, 0.9, levels["top"] * 1.2, -hat_pan)
        tom = (lines.get("toms") or "." * 16)[at]
        if tom != ".":
            place(
                dry,
                kit.takes["tom"][int(tom)] * np.float32(rng.uniform(0.7, 1.0)),
                round(index * step) + LEAD,
                0.7,
                0.5 - 0.5 * int(tom),
            )
        side = (lines["side"] or "." * 16)[at]
        if side in "sS":
            hit("shaker", index, 0.9 if side == "S" else 0.55, 0.22, -hat_pan)
        elif side == "c":
            hit("conga", index, rng.uniform(0.3, 1.0), 0.34, -hat_pan)
    # The room rings over the loop's end into its start, as it does when a loop is cut from the middle of a performance.
    dry[:, :tail] += dry[:, count:]
    dry = dry[:, :count]
    sound = _on_record(rng, dry)
    sound = varispeed(sound, bpm / played_at)
    exact = SR * 60.0 / bpm / 4.0
    fitted = np.zeros((2, round(steps * exact)), np.float32)
    length = min(fitted.shape[1], sound.shape[1])
    fitted[:, :length] = sound[:, :length]
    return Break(np.roll(fitted, -LEAD // 4, axis=1), exact, "".join(marks))


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
    sound /= np.abs(sound).max() + 1e-6
    sound = compressed(sound, rng.uniform(-14, -9), rng.uniform(2, 4), attack=rng.uniform(0.006, 0.02))
    sound = tape(sound, rng.uniform(1.0, 2.2), rng.uniform(11_000, 17_000))
    sound = wow(sound, rng, rng.uniform(0.0, 0.0004))
    sound /= np.abs(sound).max() + 1e-6
    return crushed(sound, int(rng.choice([10, 11, 12, 12])), int(rng.choice([1, 1, 1, 2])))
