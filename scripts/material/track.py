"""A plan turned into sound: drums, bass, music and air on buses of their own, then the mix."""

import numpy as np

from . import bass, chops, harmony, textures
from .drumming import drum_bus
from .dsp import SR, Array, active_rms, db, filtered, noise, place, varispeed
from .effects import echo, mastered, reverberate, room_response, tape, wow
from .score import Plan, Section


def render(plan: Plan) -> Array:
    """The whole track [2, T], float32, mastered; the same plan gives the same samples."""
    drums, kicks = drum_bus(plan)
    count = plan.count
    rng = plan.rng("mix")
    duck = chops.duck_curve(count, kicks, rng.uniform(0.25, 0.5), rng.uniform(0.05, 0.11))
    mix = _levelled(drums, -15.0)
    mix += _levelled(_bass(plan, count), rng.uniform(-22.5, -19.5)) * duck
    mix += _levelled(_music(plan, count), rng.uniform(-24.0, -20.5)) * (np.float32(0.4) + np.float32(0.6) * duck)
    mix += _levelled(_air(plan, count), rng.uniform(-35, -30))
    out = mastered(mix, plan.loudness, plan.drive)
    fade = round(min(1.6, plan.seconds / 4) * SR)
    out[:, -fade:] *= np.cos(np.linspace(0, np.pi / 2, fade, dtype=np.float32)) ** 2
    return out - out.mean(axis=1, keepdims=True)


def _levelled(bus: Array, level_db: float) -> Array:
    """`bus`, changed in place, at an RMS of `level_db` dBFS while it plays."""
    rms = active_rms(bus)
    if rms > 0:
        bus *= np.float32(db(level_db) / rms)
    return bus


def _bass(plan: Plan, count: int) -> Array:
    """The bass bus [2, T]: a line per section over its chords; the second drop has a sound of its own."""
    out = np.zeros((2, count), np.float32)
    for number, section in enumerate(plan.sections):
        if "bass" not in section.parts:
            continue
        dice = plan.rng("bass", number)
        start, stop = plan.span(section)
        notes = _bass_notes(plan, section, dice)
        place(out, bass.play(dice, notes, stop - start, plan.bass_of(section.kind), plan.bar), start)
    return out


def _bass_notes(plan: Plan, section: Section, dice: np.random.Generator) -> list[bass.Note]:
    """Notes of a section, their times counted from its start; lines of two bars come back with their chords."""
    step = plan.bar / 16
    # Roots lie between 41 and 78 Hz: lower is felt by few speakers, higher is no sub.
    octave = 1 if plan.key.tonic >= 4 else 2
    lines: dict[tuple[int, ...], list] = {}
    notes = []
    for bar in range(section.bars // 2 if section.kind == "breakdown" else 0, section.bars, 2):
        roots = [plan.degree(section.first + bar), plan.degree(section.first + bar + 1)]
        name = (*roots, bar % 8 == 6)
        if name not in lines:
            lines[name] = bass.draw_line(dice, roots, busy=section.kind.startswith("drop"))
        for start, length, degree, velocity, slide in lines[name]:
            if start < 16 * (section.bars - bar):
                pitch = plan.key.note(degree, octave)
                pitch += 12 * (pitch < 27) - 12 * (pitch > 45)
                notes.append(
                    bass.Note(round(bar * plan.bar + start * step), round(length * step), pitch, velocity, slide)
                )
    return notes


def _music(plan: Plan, count: int) -> Array:
    """Pads, stabs, bells, voices and sirens with their echoes and hall [2, T], a little unsteady like tape."""
    rng = plan.rng("music")
    low = 52 + int(rng.integers(0, 5))
    out, struck = np.zeros((2, count), np.float32), np.zeros((2, count), np.float32)
    _pads(out, plan, low)
    _stabs(struck, plan, low)
    _bells(struck, plan)
    _calls(struck, plan)
    struck += echo(struck, float(rng.choice([3, 6])) * plan.bar / 16 / SR, rng.uniform(0.45, 0.65))
    out += struck
    hall = room_response(rng, rng.uniform(1.6, 3.2), rng.uniform(2500, 5500), predelay=0.02)
    out += np.float32(rng.uniform(0.3, 0.6)) * reverberate(out, hall)
    out = tape(filtered(out, 110, "highpass"), 0.8, rng.uniform(8000, 14_000), bump=0.0)
    return wow(out, rng)


def _pads(out: Array, plan: Plan, low: int) -> None:
    chords: dict[int, Array] = {}
    for section in plan.sections:
        if "pad" not in section.parts:
            continue
        level = {"breakdown": 1.0, "intro": 0.9}.get(section.kind, 0.6)
        for bar in range(0, section.bars, plan.chord_bars):
            degree = plan.degree(section.first + bar)
            if degree not in chords:
                notes = plan.key.chord(degree, plan.shape, low)
                length = plan.chord_bars * plan.bar / SR + 0.5
                chords[degree] = harmony.pad_chord(plan.rng("pad", degree), notes, length, plan.pad)
            kept = min(plan.chord_bars, section.bars - bar) * plan.bar + 0.5 * SR
            place(out, chords[degree][:, : round(kept)], round((section.first + bar) * plan.bar), level)


def _stabs(out: Array, plan: Plan, low: int) -> None:
    """One sampled chord played at other pitches, in a rhythm of two bars."""
    rng = plan.rng("stabs")
    hit = harmony.stab(rng, plan.key.chord(0, plan.shape[:4], low + 5), plan.stab)
    rhythm = sorted(rng.choice(np.arange(0, 32), int(rng.integers(3, 8)), replace=False).tolist())
    moves = [int(rng.choice([0, 0, 0, 3, 5, -2, 7])) for _ in rhythm]
    for section in plan.sections:
        full = "stab" in section.parts
        if not full and "stab echo" not in section.parts:
            continue
        for bar in range(0, section.bars, 2 if full else 4):
            number = section.first + bar
            root = plan.key.note(plan.degree(number), 3) - plan.key.note(0, 3)
            for start, move in list(zip(rhythm, moves))[: None if full else 1]:
                sound = varispeed(hit, 2.0 ** (((root + 6) % 12 - 6 + move) / 12.0))
                if start < 16 * (section.bars - bar):
                    place(out, sound, round(number * plan.bar + start * plan.bar / 16), 0.9)


def _bells(out: Array, plan: Plan) -> None:
    rng = plan.rng("bells")
    places = sorted(rng.choice(np.arange(0, 32, 2), int(rng.integers(4, 8)), replace=False).tolist())
    motif = [(at, plan.key.note(int(rng.choice([0, 2, 4, 6, 7, 9])), 5), rng.uniform(-0.5, 0.5)) for at in places]
    sounds = {note: harmony.bell(plan.rng("bell"), note, 1.6) for _, note, _ in motif}
    for section in plan.sections:
        if "bells" in section.parts:
            for bar in range(0, section.bars, 2):
                for start, note, pan in motif:
                    if start < 16 * (section.bars - bar):
                        place(out, sounds[note], round((section.first + bar + start / 16) * plan.bar), 0.3, pan)


def _calls(out: Array, plan: Plan) -> None:
    """A voice and a siren, now and then."""
    rng = plan.rng("calls")
    voice, other = harmony.shout(rng), varispeed(harmony.shout(rng), rng.uniform(0.8, 1.25))
    for section in plan.sections:
        if "shout" in section.parts:
            for bar in range(0, section.bars, int(rng.choice([4, 8]))):
                at = (section.first + bar + rng.choice([0.0, 0.375, 0.75])) * plan.bar
                place(out, voice, round(at), 0.55, rng.uniform(-0.3, 0.3))
                if rng.random() < 0.5:
                    place(
                        out, other, round(at + plan.bar * rng.choice([0.25, 0.375, 0.5])), 0.5, rng.uniform(-0.3, 0.3)
                    )
        if "siren" in section.parts:
            at = (section.first + int(rng.integers(0, max(1, section.bars // 2)))) * plan.bar
            place(out, textures.siren(rng, rng.uniform(0.4, 1.2)), round(at), 0.2)


def _air(plan: Plan, count: int) -> Array:
    """Dust, hiss, atmospheres, risers and impacts [2, T]."""
    rng = plan.rng("air")
    out = 0.12 * textures.crackle(rng, count, rng.uniform(3, 12))
    out += np.float32(0.004) * noise(rng, 2, count)
    for section in plan.sections:
        start, stop = plan.span(section)
        if "atmosphere" in section.parts:
            bed = textures.atmosphere(rng, plan.atmosphere, stop - start)
            bed *= np.float32(0.1 / (active_rms(bed) + 1e-6))
            ramp = min(SR, bed.shape[1] // 4)
            bed[:, :ramp] *= np.linspace(0, 1, ramp, dtype=np.float32)
            bed[:, -ramp:] *= np.linspace(1, 0, ramp, dtype=np.float32)
            place(out, bed, start, 1.0 if section.kind in ("intro", "breakdown") else 0.6)
        if "riser" in section.parts:
            length = min(section.bars, int(rng.choice([2, 4]))) * plan.bar / SR
            place(out, textures.riser(rng, length), round(stop - length * SR), 0.6)
        if "impact" in section.parts:
            place(out, textures.impact(rng), start, 0.5)
    return out
