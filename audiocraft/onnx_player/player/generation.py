"""From seeds to codes and from codes to sound, step by step; part of a player, which needs numpy and onnxruntime only.

Shapes: B clips, K codebooks, S steps, F codec frames, C channels, T samples.
"""

import contextlib
import math
import os
import sys
import time
import typing as tp
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from takes import RECENT, Sampling

# Far enough apart that the seeds of clip i in window w never meet those of another clip or window.
WINDOW_SEED_STRIDE = 1 << 40
# Logits divided by much less leave float32; at this temperature the likeliest code alone is drawn as it is.
LEAST_TEMPERATURE = 1e-30
Array = np.ndarray


class PlayerError(Exception):
    """A mistake or a missing thing that the user can mend; one line."""


def check_numbers(array: Array) -> Array:
    """The array. Raises PlayerError where it holds NaN or infinities."""
    if array.size and not np.isfinite(array.max() - array.min()):
        raise PlayerError("the model computes no numbers any more (NaN); its weights are damaged, or training diverged")
    return array


class Clock:
    """Seconds since the process started, and how long the phases took."""

    def __init__(self) -> None:
        self.before = 0.0
        with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):  # Linux only
            started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
            self.before = time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
        self.zero = time.perf_counter() - self.before
        self.marks: dict[str, float] = {"imports": self.now()}
        self.spent = {"lm": 0.0, "decode": 0.0}

    def now(self) -> float:
        return time.perf_counter() - self.zero

    def mark(self, phase: str) -> None:
        """Note the end of a phase, once."""
        self.marks.setdefault(phase, self.now())

    @contextlib.contextmanager
    def spending(self, phase: str) -> tp.Iterator[None]:
        began = time.perf_counter()
        yield
        self.spent[phase] += time.perf_counter() - began

    def report(self) -> dict[str, float]:
        """When each phase ended: `lm` and `decode`, which take turns, as if one had followed the other."""
        self.mark("total")
        lm = self.marks["load"] + self.spent["lm"]
        report = {**self.marks, "lm": lm, "decode": lm + self.spent["decode"]}
        with contextlib.suppress(ImportError):  # not on Windows
            import resource

            unit = 1 << 20 if sys.platform == "darwin" else 1 << 10  # macOS counts bytes, others KiB
            report["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
        return {name: round(value, 4) for name, value in report.items()}


def uniform_numbers(seed: int, clips: int, steps: int, n_q: int) -> Array:
    """float32 [clips, steps, n_q]: the upper 24 bits of the raw numbers of a PCG64 seeded with seed + i for clip i."""
    rows = [np.random.PCG64((seed + i) % (1 << 64)).random_raw(steps * n_q) >> np.uint64(40) for i in range(clips)]
    return (np.stack(rows).astype(np.float32) * np.float32(2**-24)).reshape(clips, steps, n_q)


def penalise_recent(logits: Array, recent: Array, repetition: float) -> Array:
    """Take `repetition` off logits [B, card], in proportion to each code's share of the last `RECENT` ones, [B, n]."""
    card = logits.shape[-1]
    counts = np.stack([np.bincount(row[row < card], minlength=card) for row in recent])
    return logits - np.float32(repetition) * (counts.astype(np.float32) / np.float32(RECENT))


def choose(logits: Array, uniforms: Array, sampling: Sampling, codebooks: tp.Sequence[int] | None = None) -> Array:
    """Codes [...] from logits [..., card]: each distribution is inverted at its uniform number of [...].

    Args:
        codebooks: which the last of [...] are; all if not given. What `repetition` takes off is off already.
    """
    if sampling.greedy:
        return logits.argmax(-1)
    books = range(uniforms.shape[-1]) if codebooks is None else codebooks
    temperatures = [max(sampling.temperature * sampling.cool**k, LEAST_TEMPERATURE) for k in books]
    scaled = (logits / np.array(temperatures, np.float32)[:, None]).reshape(-1, logits.shape[-1])
    kept = _kept(scaled, sampling)
    if sampling.min_p > 0:
        kept &= scaled >= scaled.max(-1, keepdims=True) + np.float32(math.log(sampling.min_p))
    # Rows of what is kept, one after another: a fraction of the whole, and one search finds all codes.
    columns = np.nonzero(kept)[1]
    counts = np.count_nonzero(kept, axis=-1)
    cumulated = np.exp(scaled[kept] - np.repeat(scaled.max(-1), counts)).cumsum(dtype=np.float64)
    ends = cumulated[counts.cumsum() - 1]
    starts = np.concatenate([[0.0], ends[:-1]])
    places = np.searchsorted(cumulated, starts + uniforms.reshape(-1) * (ends - starts), side="right")
    return columns[places].reshape(uniforms.shape)


def _kept(scaled: Array, sampling: Sampling) -> Array:
    """Which codes may be chosen, bool [rows, card]."""
    card = scaled.shape[-1]
    if sampling.top_p > 0:
        probs = np.exp(scaled - scaled.max(-1, keepdims=True))
        probs /= probs.sum(-1, keepdims=True)
        order = np.argsort(-probs, axis=-1, kind="stable")
        ordered = np.take_along_axis(probs, order, -1)
        kept = np.empty(scaled.shape, bool)
        # A code goes if those before it have more than top_p together, so the likeliest always stays.
        np.put_along_axis(kept, order, ordered.cumsum(-1) - ordered <= sampling.top_p, -1)
        return kept
    if 0 < sampling.top_k < card:
        place = card - sampling.top_k
        return scaled >= np.partition(scaled, place, -1)[:, place, None]
    return np.ones(scaled.shape, bool)


# --- the model --------------------------------------------------------------------------------------------------------


@dataclass
class Cache:
    """Keys and values of one window of all clips, which the graph writes in place, and how many steps they hold."""

    binding: tp.Any
    clips: int
    length: int = 0


class LanguageModel:
    """Codes in, logits of the next codes out."""

    def __init__(self, session: "ort.InferenceSession", facts: dict[str, tp.Any]) -> None:
        self.session, self.facts = session, facts

    def start(self, clips: int, steps: int) -> Cache:
        """An empty cache for `steps` steps."""
        binding = self.session.io_binding()
        for given in self.session.get_inputs():
            if given.name.startswith("past_"):
                shape = [clips, given.shape[1], steps, given.shape[3]]
                memory = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32)
                binding.bind_ortvalue_input(given.name, memory)
                binding.bind_ortvalue_output(given.name.removeprefix("past_"), memory)
        binding.bind_output("logits")
        return Cache(binding, clips)

    def read(self, cache: Cache, codes: Array) -> Array:
        """Read steps [B, K, S] (more than one only at first) and return the logits [B, K, card] of the next."""
        cache.length += codes.shape[-1]
        given = {
            "codes": np.ascontiguousarray(codes),
            "length": np.array([cache.length], np.int32),
            "ends": np.full(cache.clips, cache.length - 1, np.int32),
        }
        for name, value in given.items():
            cache.binding.bind_cpu_input(name, value)
        self.session.run_with_iobinding(cache.binding)
        return check_numbers(cache.binding.get_outputs()[-1].numpy())


def draw_codes(
    lm: LanguageModel, clips: int, frames: int, seed: int, sampling: Sampling, clock: Clock
) -> tp.Iterator[Array]:
    """Frames of codes, int64 [B, K, 1] each, one by one; beyond the model's reach in windows that overlap."""
    facts = lm.facts
    window, done, windows = min(facts["window_frames"], frames), 0, 0
    context = np.zeros((clips, facts["n_q"], 0), np.int64)
    while done < frames:
        length = min(window, frames - done + context.shape[-1])
        made = [context]
        for frame in _draw_window(lm, context, length, seed + windows * WINDOW_SEED_STRIDE, sampling, clock):
            made.append(frame)
            yield frame
        done += length - context.shape[-1]
        windows += 1
        context = np.concatenate(made, -1)[..., facts["stride_frames"] - window :]


def _draw_window(
    lm: LanguageModel, context: Array, frames: int, seed: int, sampling: Sampling, clock: Clock
) -> tp.Iterator[Array]:
    """The frames after `context` [B, K, P] of a window of `frames`. Step 1 + t + delay of codebook q holds frame t."""
    delays = lm.facts["delays"]
    (clips, n_q, known), places = context.shape, np.array(delays) + 1
    steps = frames + max(places)
    sequence = np.full((clips, n_q, steps), lm.facts["card"], np.int64)  # card: the special code
    for q, place in enumerate(places):
        sequence[:, q, place : place + known] = context[:, q]
    uniforms = uniform_numbers(seed, clips, steps, n_q)
    cache = lm.start(clips, steps - 1)
    for step in range(known + min(places), steps):
        drawn = [q for q in range(n_q) if known <= step - places[q] < frames]
        with clock.spending("lm"):
            logits = lm.read(cache, sequence[..., cache.length : step])
            if drawn:
                if sampling.repetition and drawn[0] == 0:
                    recent = sequence[:, 0, max(0, step - RECENT) : step]
                    logits[:, 0] = penalise_recent(logits[:, 0], recent, sampling.repetition)
                sequence[:, drawn, step] = choose(logits[:, drawn], uniforms[:, step, drawn], sampling, drawn)
        ready = step - max(places)
        if ready >= known:
            yield sequence[:, np.arange(n_q), ready + places][..., None]


class Cut:
    """Cuts a stream into pieces that bring `left` and `right` neighbours along, which their padding spoils."""

    def __init__(self, left: int, right: int, least: int) -> None:
        self.left, self.right, self.least = left, right, least
        self.held: Array | None = None
        self.done = 0  # of those held, how many are done

    def push(self, x: Array, last: bool) -> tuple[Array, int, int] | None:
        """x [..., n] → a piece [..., m] and the part of it (start, end) that is ready; None if nothing is."""
        held = x if self.held is None else np.concatenate([self.held, x], -1)
        start, end = self.done, held.shape[-1] - (0 if last else self.right)
        self.held = held
        if end <= start or held.shape[-1] < self.least:
            return None
        forget = max(0, end - self.left)
        self.held, self.done = held[..., forget:], end - forget
        return held, start, end


class Decoding:
    """Codes of some clips to their sound, piece by piece; joined, it is that of all codes at once."""

    def __init__(self, features: "ort.InferenceSession", sound: "ort.InferenceSession", facts: dict[str, tp.Any]):
        self.features, self.sound, self.hop = features, sound, facts["hop_length"]
        self.channels = facts["channels"]
        margins = [facts[f"{part}_margins"] for part in ("features", "sound")]
        self.cuts = [Cut(left, right, facts["least_frames"]) for left, right in margins]
        self.memory_shape = facts["lstm"]  # layers, width
        self.memory: list[Array] | None = None

    def push(self, codes: Array, last: bool) -> Array:
        """codes [B, K, n] → the sound float32 [B, C, t] that is final now."""
        clips = codes.shape[0]
        if self.memory is None:
            layers, width = self.memory_shape
            self.memory = [np.zeros((layers, clips, width), np.float32)] * 2
        piece = self.cuts[0].push(codes, last)
        nothing = np.zeros((clips, self.channels, 0), np.float32)
        if piece is None:
            return nothing
        held, *ends = piece
        given = {"codes": held, **dict(zip(("start", "end"), (np.array([end]) for end in ends)))}
        names = ["features"]
        if self.memory_shape[0]:
            given |= dict(zip(("hidden", "cell"), self.memory))
            names += ["next_hidden", "next_cell"]
        features, *self.memory = self.features.run(names, given)
        piece = self.cuts[1].push(features, last)
        if piece is None:
            return nothing
        held, start, end = piece
        # Clip by clip: the widest layers of many clips at once would not fit the caches.
        waves = [self.sound.run(None, {"features": clip[None]})[0] for clip in held]
        return check_numbers(np.concatenate(waves))[..., start * self.hop : end * self.hop]
