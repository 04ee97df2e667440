"""The drum bus of a track: its breaks chopped section by section, opened, shut and thinned by filters."""

import numpy as np

from . import breaks, chops
from .dsp import SR, Array, Rng, filtered, place, swept
from .score import Plan, Section

TAIL = SR // 2  # samples that a section's drums may ring into the next one


def drum_bus(plan: Plan) -> tuple[Array, list[int]]:
    """All drums [2, T] of a plan, and the samples at which kicks fall (for ducking what else plays)."""
    kits = [shape.record(plan.rng("takes", number)) for number, shape in enumerate(plan.kits)]
    loops = []
    for number, (kit, played_at) in enumerate(zip(kits, plan.played_at)):
        dice = plan.rng("break", number)
        groove = breaks.draw_groove(dice, int(dice.choice([2, 4])))
        loops.append(breaks.record_break(dice, kit, groove, plan.tune.bpm, played_at))
    rng = plan.rng("drumming")
    bank = [chops.BARS[i] for i in rng.permutation(len(chops.BARS))[:4]]
    bus = np.zeros((2, plan.count), np.float32)
    kicks: list[int] = []
    for number, section in enumerate(plan.sections):
        start, stop = plan.span(section)
        dice = plan.rng("chops", number)
        part = np.zeros((2, stop - start + TAIL), np.float32)
        hits = _chopped(part, plan, section, dice, loops, bank)
        place(bus, _shaped(part, section, stop - start, dice), start)
        if "break" in section.parts:
            kicks += [start + hit for hit in hits]
        if "impact" in section.parts:
            place(bus, kits[-1].takes["crash"][0], start, 0.4, 0.3)
    return bus, kicks


def _phrase(rng: Rng, loops: list[breaks.Break], main: int, bank: list[str]) -> list[list[chops.Chop]]:
    """Four bars: each the break as played, its 8ths shuffled, or a pattern of the bank filled with its hits."""
    phrase = []
    for slot in range(4):
        source = main if rng.random() < 0.8 else 2
        way = rng.random()
        if way < 0.3:
            phrase.append(chops.straight(source, slot, loops[source].bars))
        elif way < 0.5:
            phrase.append(chops.shuffled(rng, source, slot, loops[source].bars))
        else:
            phrase.append(chops.sequence_bar(rng, loops, source, bank[slot if rng.random() < 0.5 else 0]))
    return phrase


def _chopped(
    out: Array, plan: Plan, section: Section, dice: Rng, loops: list[breaks.Break], bank: list[str]
) -> list[int]:
    """Add a section's chops to `out` [2, T]: four bars, repeated with edits and turned around."""
    main = 1 if section.kind == "drop 2" and dice.random() < 0.6 else 0
    phrase = _phrase(dice, loops, main, bank)
    kicks: list[int] = []
    stop_at = float(dice.choice([8, 12, 14, 16]))
    for bar in range(section.bars):
        at = bar * plan.bar
        madness = section.madness * (1.0 if bar % 8 >= 4 else 0.6)
        played = chops.edited(dice, phrase[bar % 4], loops, madness, last=bar % 4 == 3)
        if "thin" in section.parts and (bar < section.bars // 2 or dice.random() < 0.3):
            played = [chop for chop in played if dice.random() < 0.25]
        if bar == section.bars - 1 and section.kind in ("intro", "drop", "breakdown"):
            played = chops.stopped(played, stop_at)
        chops.render_bar(out, at, played, loops, 1.0)
        kicks += chops.kick_times(played, loops, at)
        if "layer" in section.parts:
            _layer(out, plan, bar, loops, 2 - main if main else 1, 0.5, 1800)
        if "tops" in section.parts:
            _layer(out, plan, bar, loops, 2, 0.4, 4500)
    return kicks


def _layer(out: Array, plan: Plan, bar: int, loops: list[breaks.Break], source: int, gain: float, above: float) -> None:
    """What a second break has above `above` Hz, played straight under the chops."""
    layer = np.zeros((2, round(plan.bar) + TAIL), np.float32)
    chops.render_bar(layer, 0.0, chops.straight(source, bar, loops[source].bars), loops, gain)
    place(out, filtered(layer, above, "highpass"), round(bar * plan.bar))


def _shaped(part: Array, section: Section, length: int, dice: Rng) -> Array:
    """Filters that open in intros, shut in outros, thin breakdowns; the section is `length` samples long."""
    place_in = np.clip(np.arange(part.shape[1], dtype=np.float32) / np.float32(length), 0.0, 1.0)
    if "muffled" in section.parts:
        if dice.random() < 0.6:
            return swept(part, 250.0 * 2.0 ** (5.5 * place_in**1.5)) * np.float32(0.9)
        return swept(part, 3000.0 * 2.0 ** (-5.5 * place_in**2), "highpass")
    if "fade" in section.parts:
        return swept(part, 16_000.0 * 2.0 ** (-4.5 * np.maximum(0, place_in - 0.4) / 0.6))
    if "thin" in section.parts:
        return filtered(part, 350, "highpass") * np.float32(0.7)
    return part
