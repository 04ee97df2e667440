"""A jungle plan turned into sound: drums, bass, music and air on buses of their own, then the mix."""

import numpy as np

from . import bass, chops, harmony, noises
from .drumming import drum_bus
from .dsp import SR, Array, edges, filtered, levelled, noise, place, varispeed
from .effects import echo, mastered, reverberate, room_response, tape, wow
from .score import Plan, Section
from .speech import shout
from .synthesis import TONES
from .tune import Note


def render(plan: Plan) -> Array:
    """The whole track [2, T], float32, mastered; the same plan gives the same samples."""
    drums, kicks = drum_bus(plan)
    rng = plan.rng("mix")
    duck = chops.duck_curve(plan.count, kicks, rng.uniform(0.25, 0.5), rng.uniform(0.05, 0.11))
    mix = levelled(drums, -15.0)
    mix += levelled(_bass(plan), rng.uniform(-22.5, -19.5)) * duck
    mix += levelled(_music(plan), rng.uniform(-24.0, -20.5)) * (np.float32(0.4) + np.float32(0.6) * duck)
    mix += levelled(_air(plan), rng.uniform(-35, -30))
    out = edges(mastered(mix, plan.loudness, plan.drive), 0.0, min(1.6, plan.seconds / 4))
    return out - out.mean(axis=1, keepdims=True)


def _bass(plan: Plan) -> Array:
    """The bass bus [2, T]: a line per section over its chords; the second drop has a sound of its own."""
    out = np.zeros((2, plan.count), np.float32)
    for number, section in enumerate(plan.sections):
        if "bass" in section.parts:
            dice = plan.rng("bass", number)
            start, stop = plan.span(section)
            notes = _bass_notes(plan, section, dice)
            place(out, bass.play(dice, notes, stop - start, plan.bass_of(section.kind), plan.bar), start)
    return out


def _bass_notes(plan: Plan, section: Section, dice: np.random.Generator) -> list[Note]:
    """Notes of a section, their times counted from its start; lines of two bars come back with their chords."""
    tune, step = plan.tune, plan.bar / 16
    lines: dict[tuple[int, int, bool], list] = {}
    notes = []
    for bar in range(section.bars // 2 if section.kind == "breakdown" else 0, section.bars, 2):
        roots = tune.degree(4 * (section.first + bar)), tune.degree(4 * (section.first + bar + 1))
        name = (*roots, bar % 8 == 6)
        if name not in lines:
            lines[name] = bass.draw_line(dice, roots, busy=section.kind.startswith("drop"))
        for start, length, degree, velocity, slide in lines[name]:
            if bar + start / 16 < section.bars:
                # Between 41 and 78 Hz: lower is felt by few speakers, higher is no sub.
                pitch = 28 + (tune.key.note(degree, 1) - 28) % 12
                at = round(bar * plan.bar + start * step)
                notes.append(Note(at, length * step / SR, pitch, velocity, slide))
    return notes


def _music(plan: Plan) -> Array:
    """Pads, stabs, bells, voices and sirens with their echoes and hall [2, T], a little unsteady like tape."""
    rng = plan.rng("music")
    low = 52 + int(rng.integers(0, 5))
    out, struck = np.zeros((2, plan.count), np.float32), np.zeros((2, plan.count), np.float32)
    _pads(out, plan, low)
    _stabs(struck, plan, low)
    _bells(struck, plan)
    _calls(struck, plan)
    out += struck + echo(struck, float(rng.choice([3, 6])) * plan.bar / 16 / SR, rng.uniform(0.45, 0.65))
    hall = room_response(rng, rng.uniform(1.6, 3.2), rng.uniform(2500, 5500), predelay=0.02)
    out += np.float32(rng.uniform(0.3, 0.6)) * reverberate(out, hall)
    out = tape(filtered(out, 110, "highpass"), 0.8, rng.uniform(8000, 14_000), bump=0.0)
    return wow(out, rng)


def _pads(out: Array, plan: Plan, low: int) -> None:
    bars = plan.tune.chord_beats // 4
    chords: dict[int, Array] = {}
    for section, bar in plan.playing("pad", bars):
        degree = plan.tune.degree(4 * bar)
        if degree not in chords:
            notes = plan.tune.chord(4 * bar, low)
            chords[degree] = harmony.pad_chord(plan.rng("pad", degree), notes, bars * plan.bar / SR + 0.5, plan.pad)
        kept = min(bars, section.first + section.bars - bar) * plan.bar + 0.5 * SR
        level = {"breakdown": 1.0, "intro": 0.9}.get(section.kind, 0.6)
        place(out, chords[degree][:, : round(kept)], round(bar * plan.bar), level)


def _stabs(out: Array, plan: Plan, low: int) -> None:
    """One sampled chord played at other pitches, in a rhythm of two bars; where it is only echoed, its first hit."""
    rng, key = plan.rng("stabs"), plan.tune.key
    hit = harmony.stab(rng, key.chord(0, plan.tune.shape[:4], low + 5), plan.stab)
    rhythm = sorted(rng.choice(32, int(rng.integers(3, 8)), replace=False).tolist())
    moves = rng.choice([0, 0, 0, 3, 5, -2, 7], len(rhythm)).tolist()
    for part, every, count in (("stab", 2, len(rhythm)), ("stab echo", 4, 1)):
        for section, bar in plan.playing(part, every):
            root = key.note(plan.tune.degree(4 * bar), 3) - key.note(0, 3)
            for start, move in list(zip(rhythm, moves))[:count]:
                if bar + start / 16 < section.first + section.bars:
                    sound = varispeed(hit, 2.0 ** (((root + 6) % 12 - 6 + move) / 12.0))
                    place(out, sound, round((bar + start / 16) * plan.bar), 0.9)


def _bells(out: Array, plan: Plan) -> None:
    """A motif of two bars on bells of frequency modulation."""
    rng = plan.rng("bells")
    tone = TONES[str(rng.choice(["fm bell", "fm chime", "electric piano"]))]
    places = sorted(rng.choice(np.arange(0, 32, 2), int(rng.integers(4, 8)), replace=False).tolist())
    notes = [plan.tune.key.note(int(rng.choice([0, 2, 4, 6, 7, 9])), 5) for _ in places]
    sounds = {note: tone.strike(rng, note, 0.8) for note in notes}
    pans = rng.uniform(-0.5, 0.5, len(notes)).tolist()
    for section, bar in plan.playing("bells", 2):
        for start, note, pan in zip(places, notes, pans):
            if bar + start / 16 < section.first + section.bars:
                place(out, sounds[note], round((bar + start / 16) * plan.bar), 0.4, pan)


def _calls(out: Array, plan: Plan) -> None:
    """A voice and a siren, now and then."""
    rng = plan.rng("calls")
    voice = shout(rng)
    other = varispeed(shout(rng), rng.uniform(0.8, 1.25))
    for _, bar in plan.playing("shout", int(rng.choice([4, 8]))):
        at = bar + rng.choice([0.0, 0.375, 0.75])
        place(out, voice, round(at * plan.bar), 0.55, rng.uniform(-0.3, 0.3))
        if rng.random() < 0.5:
            late = at + rng.choice([0.25, 0.375, 0.5])
            place(out, other, round(late * plan.bar), 0.5, rng.uniform(-0.3, 0.3))
    for section, bar in plan.playing("siren", 64):
        at = bar + int(rng.integers(0, max(1, section.bars // 2)))
        place(out, noises.siren(rng, rng.uniform(0.4, 1.2)), round(at * plan.bar), 0.2)


def _air(plan: Plan) -> Array:
    """Dust, hiss, atmospheres, risers and impacts [2, T]."""
    rng = plan.rng("air")
    out = 0.12 * noises.crackle(rng, plan.count, rng.uniform(3, 12)) + np.float32(0.004) * noise(rng, 2, plan.count)
    for section in plan.sections:
        start, stop = plan.span(section)
        if "atmosphere" in section.parts:
            bed = levelled(noises.texture(rng, plan.tune, stop - start, plan.atmosphere), -20.0)
            ramp = min(1.0, bed.shape[1] / 4 / SR)
            place(out, edges(bed, ramp, ramp), start, 1.0 if section.kind in ("intro", "breakdown") else 0.6)
        if "riser" in section.parts:
            length = min(section.bars, int(rng.choice([2, 4]))) * plan.bar / SR
            place(out, noises.riser(rng, length), round(stop - length * SR), 0.6)
        if "impact" in section.parts:
            place(out, noises.impact(rng), start, 0.5)
    return out
