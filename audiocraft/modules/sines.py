"""Codes → sound of the spectral codec, in numpy alone: what torch plays and what a player without torch plays is one.

A frame (20 ms) has an envelope, 64 bands × 4 columns of magnitudes, and one partial; the last three frames' partials
sound together. Partials are played by oscillators that take their energy from the envelope, so pitch does not depend
on its resolution. Where they are a harmonic series the rest gathers around its members; it gets phases that fit its
magnitudes ("spectral modeling synthesis", Serra and Smith 1990; phases as in Zhu, Beauregard and Wyse 2007, "Real-time
signal estimation from modified STFT magnitude spectra").
Nothing is drawn at random and nothing lasts longer than a column of 5 ms: no rate at which it could hum.

Shapes: B clips, K codebooks, F frames, N columns, P partials, T samples. Code -1 stands for nothing.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

SAMPLE_RATE = 32000
FRAME, HOP, WINDOW = 640, 160, 640  # samples
COLUMNS = FRAME // HOP  # of a frame
BINS = WINDOW // 2 + 1
BANDS = 64
FLOOR = 1e-4  # added to magnitudes before the logarithm; a full-scale sine has WINDOW / 4

TONES = 1  # the codebook of partials; the others are the envelope's
PARTIALS = 3  # frames whose partials sound together
LOWEST_HZ, STEP_CENTS, PITCHES = 60.0, 25.0, 291  # up to 3957 Hz
LOWEST_DB, STEP_DB, LEVELS = -50.0, 6.0, 7  # of a sine's amplitude; the ends stand for what lies beyond them too
PARTIAL_CODES = 1 + PITCHES * LEVELS  # the first: no partial

SMOOTHING = 12  # columns on either side over which a partial's level is held to what its code says
LEVEL_SLACK = STEP_DB / 2
UNDER_TONES = 0.15  # of the envelope stays in the rest where a partial is
SAME_NOTE_CENTS = 100.0  # a partial that moves no farther than this glides
SERIES_CENTS = 30.0  # partials no farther than this from multiples of one frequency are a series
LOWEST_SERIES_HZ = 3 * SAMPLE_RATE / WINDOW  # below, the main lobes of its members overlap too far
SERIES_DEPTH = 2.5  # log10 below the column's loudest: what is quieter stays noise
BETWEEN_SERIES = 0.3  # of the envelope stays in the rest between a series' members

PEAK, LOBE = 0.5, 2  # how far a peak's logarithm stands out of the 9 bins around it; bins on either side that it takes
BLOCK, AHEAD, ROUNDS = 8, 6, 2  # columns whose phases are settled together, columns known beyond them, rounds

_BEFORE = PARTIALS - 1 + SMOOTHING // COLUMNS  # frames that a frame's columns depend on
_AFTER = SMOOTHING // COLUMNS
_TAIL = WINDOW - HOP
_LEAD = (WINDOW - HOP) // 2  # samples of the first window before the signal
DELAY = _AFTER * FRAME + (BLOCK + AHEAD) * HOP + _LEAD
"""Samples after a frame's last that must be known before it is settled, at most."""

_F32 = np.float32
_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(_F32)
_GAIN = sum((_HANN[i * HOP : (i + 1) * HOP] ** 2 for i in range(COLUMNS)), np.zeros(HOP, _F32))  # of full overlap


def partial_of(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes of partials → (Hz, 0 for none; level in dB), of the same shape; codes that no encoder makes are none."""
    there = (codes > 0) & (codes < PARTIAL_CODES)
    pitch, level = np.divmod(np.maximum(codes - 1, 0), LEVELS)
    hz = LOWEST_HZ * 2.0 ** (pitch * (STEP_CENTS / 1200))
    return np.where(there, hz, 0.0), np.where(there, LOWEST_DB + STEP_DB * level, LOWEST_DB - STEP_DB)


@dataclass
class SinesState:
    """Where a stream is; every array begins with the clips, and none grows with the stream.

    Attributes:
        frames: pushed so far. columns: handed to oscillators and phases so far; begun: of these, those with phases.
        codes: [B, K, f], the frames that later ones still depend on, or that are not settled.
        voices: what the oscillators hold: [B, 5, P, 2] amplitude, Hz and turn (radians) of two voices each, then,
            twice, the partial's Hz and which voice has it.
        tail: [B, _TAIL] windowed sum of the settled columns beyond the last of them.
        waiting: [B, n, BINS] magnitudes whose phases are not settled; spectra: [B, m, BINS] those that were begun.
        turn: [B, BINS] phases of the column begun last.
        tones, rest: [B, t] sound that waits for the other.
        skipped: samples of the first window that lie before the signal and were dropped.
    """

    frames: int = 0
    columns: int = 0
    begun: int = 0
    skipped: int = 0
    codes: np.ndarray | None = None
    voices: np.ndarray = field(default_factory=lambda: np.zeros(0))
    tail: np.ndarray = field(default_factory=lambda: np.zeros(0))
    waiting: np.ndarray = field(default_factory=lambda: np.zeros(0))
    spectra: np.ndarray = field(default_factory=lambda: np.zeros(0))
    turn: np.ndarray = field(default_factory=lambda: np.zeros(0))
    tones: np.ndarray = field(default_factory=lambda: np.zeros(0))
    rest: np.ndarray = field(default_factory=lambda: np.zeros(0))


class SinesDecoder:
    """Decodes streams; holds no state of its own.

    Args:
        mean: [COLUMNS * BANDS], log10 magnitudes of the mean envelope.
        books: [K - 1, card, COLUMNS * BANDS], vectors of the envelope's codebooks, to be summed. Where they are those
            of several codecs, one behind the other, a code beyond `bins` reads another's.
        spread: [BANDS, BINS], how bands become bins.
        bins: codes per codebook; None for all there are.
        buzz: a click in the middle of each frame, coloured by the envelope, instead of partials and fitting phases.
    """

    def __init__(
        self, mean: np.ndarray, books: np.ndarray, spread: np.ndarray, bins: int | None = None, buzz: bool = False
    ) -> None:
        self.mean, self.books, self.spread = (part.astype(_F32) for part in (mean, books, spread))
        self.bins, self.buzz = bins or books.shape[1], buzz

    def start(self) -> SinesState:
        """State of a new stream."""
        return SinesState()

    def push(self, state: SinesState, codes: np.ndarray, last: bool = False) -> np.ndarray:
        """codes [B, K, f] → the wave [B, t] that is settled now; in all F * FRAME samples. `state` is changed."""
        if state.codes is None:
            _begin(state, codes)
        assert state.codes is not None
        first = state.frames - state.codes.shape[2]  # frame of the first that is held
        own = np.where(codes < 0, codes, codes % self.bins)
        codes = np.concatenate([codes[:, :TONES], own[:, TONES : TONES + 1], codes[:, TONES + 1 :]], axis=1)
        state.codes = np.concatenate([state.codes, codes], axis=2)
        state.frames += codes.shape[2]
        begin, end = state.columns // COLUMNS, state.frames if last else state.frames - _AFTER
        if end > begin:
            amplitude, hz, rest = self._columns(state.codes, first, begin, end)
            state.columns += rest.shape[1]
            state.voices = state.voices.copy()  # whoever copied the state may share it
            state.tones = np.concatenate([state.tones, _oscillate(state.voices, amplitude, hz, begin == 0)], axis=1)
            state.waiting = np.concatenate([state.waiting, rest], axis=1)
            state.codes = state.codes[:, :, max(0, end - _BEFORE - first) :]
        if last and state.columns:
            state.voices = state.voices.copy()
            state.tones = np.concatenate([state.tones, _hold(state.voices)], axis=1)
        self._settle(state, last)
        ready = min(state.tones.shape[1], state.rest.shape[1])
        wav = state.tones[:, :ready] + state.rest[:, :ready]
        state.tones, state.rest = state.tones[:, ready:], state.rest[:, ready:]
        return wav.astype(_F32)

    def envelope(self, codes: np.ndarray) -> np.ndarray:
        """codes [B, K, F] → magnitudes [B, N, BINS]."""
        log = np.broadcast_to(self.mean, (codes.shape[0], codes.shape[2], self.mean.size)).copy()
        for book, k in enumerate(k for k in range(codes.shape[1]) if k != TONES):
            log += self.books[book][codes[:, k]] * (codes[:, k] >= 0)[..., None]
        bands = np.maximum(10.0 ** log.reshape(len(codes), -1, BANDS) - FLOOR, 0).astype(_F32)
        return bands @ self.spread

    def _columns(
        self, codes: np.ndarray, first: int, begin: int, end: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Columns of the frames from `begin` to `end`, of codes whose first is frame `first`: amplitudes and Hz
        [B, N, P], and magnitudes of the rest [B, N, BINS]."""
        start = max(0, begin - _AFTER)
        stop = min(first + codes.shape[2], end + _AFTER)
        magnitude = self.envelope(codes[:, :, start - first : stop - first])
        hz, level = _sounding(codes, first, start, stop)
        hz = np.zeros_like(hz) if self.buzz else hz
        amplitude, rest = _divide(magnitude, hz, level)
        amplitude = _levelled(amplitude, hz, level)
        kept = slice((begin - start) * COLUMNS, (end - start) * COLUMNS)
        return amplitude[:, kept], hz[:, kept], rest[:, kept]

    def _settle(self, state: SinesState, last: bool) -> None:
        """Move what can be settled from `waiting` to `rest`."""
        done = []
        settle = _click_block if self.buzz else _settle_block
        while state.waiting.shape[1] >= BLOCK + AHEAD:
            done.append(settle(state, BLOCK))
        while last and state.waiting.shape[1]:
            done.append(settle(state, min(BLOCK, state.waiting.shape[1])))
        if last and state.columns:
            done.append(state.tail / np.resize(_GAIN, _TAIL))
        for part in done:
            drop = min(_LEAD - state.skipped, part.shape[1])
            state.skipped += drop
            state.rest = np.concatenate([state.rest, part[:, drop:]], axis=1)


def _begin(state: SinesState, codes: np.ndarray) -> None:
    clips = len(codes)
    state.codes = codes[:, :, :0]
    state.voices = np.zeros((clips, 5, PARTIALS, 2))
    state.tail = np.zeros((clips, _TAIL), _F32)
    state.waiting = np.zeros((clips, 0, BINS), _F32)
    state.spectra = np.zeros((clips, 0, BINS), np.complex64)
    state.turn = np.zeros((clips, BINS))
    state.tones = state.rest = np.zeros((clips, 0), _F32)


def _sounding(codes: np.ndarray, first: int, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Hz and level [B, N, P] of the partials that sound in frames from `start` to `stop`: place p holds the newest of
    the frames whose number is p modulo P, so that a partial coded again stays in its place."""
    clips, books, _ = codes.shape
    tones = codes[:, TONES] if books > TONES else np.zeros((clips, codes.shape[2]), int)
    frames = np.arange(start, stop)[:, None]
    newest = frames - (frames - np.arange(PARTIALS)) % PARTIALS - first  # [F, P]
    held = np.where(newest >= 0, tones[:, np.maximum(newest, 0)], 0)
    hz, level = partial_of(np.repeat(held, COLUMNS, axis=1))
    return hz, level


def _divide(magnitude: np.ndarray, hz: np.ndarray, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Envelope [B, N, BINS] → amplitudes [B, N, P] of the partials, and what is left for the rest.

    A partial takes the power under its window's main lobe; where lobes overlap they share as their levels say.
    """
    place = hz * (WINDOW / SAMPLE_RATE)
    bins = np.floor(place).astype(int)[..., None] + np.arange(-1, 3)  # the bins within two of it
    lobe = _main_lobe(place[..., None] - bins) * (hz > 0)[..., None]  # [B, N, P, 4]
    inside = np.clip(bins, 0, BINS - 1)
    claim = (10 ** (level[..., None] / 20) * lobe) ** 2
    clips, columns, _ = magnitude.shape
    row = np.arange(clips)[:, None, None, None], np.arange(columns)[None, :, None, None]
    claims = np.zeros(magnitude.shape)
    np.add.at(claims, (*row, inside), claim)
    power = magnitude.astype(float) ** 2
    near = lobe > 0.2
    taken = (power[(*row, inside)] * claim / np.maximum(claims[(*row, inside)], 1e-30) * near).sum(-1)
    amplitude = np.sqrt(taken / np.maximum((lobe**2 * near).sum(-1), 1e-3)) / (WINDOW / 4)
    tones = np.zeros(magnitude.shape)
    np.add.at(tones, (*row, inside), (amplitude[..., None] * (WINDOW / 4) * lobe) ** 2)
    rest = np.sqrt(np.maximum(power - tones, 0))
    rest = np.where(claims > 0, np.minimum(rest, UNDER_TONES * magnitude), _combed(magnitude, hz))
    return amplitude * (hz > 0), rest.astype(_F32)


def _combed(magnitude: np.ndarray, hz: np.ndarray) -> np.ndarray:
    """Magnitudes [B, N, BINS] whose power gathers around the multiples of the highest frequency of which all partials
    that sound, two or more, are multiples; hz [B, N, P]."""
    base, sounding = np.zeros(hz.shape[:2]), hz > 0
    for divisor in (1, 2, 3, 4):
        ratio = hz[..., None, :] / np.maximum(hz / divisor, 1.0)[..., None]
        cents = 1200 * np.abs(np.log2(np.maximum(ratio, 0.5) / np.maximum(np.round(ratio), 1)))
        fits = ((cents < SERIES_CENTS) | ~sounding[..., None, :]).all(-1) & (hz / divisor >= LOWEST_SERIES_HZ)
        base = np.maximum(base, np.where(fits, hz / divisor, 0).max(-1))
    spacing = np.where(sounding.sum(-1) > 1, base, 0)[..., None] * (WINDOW / SAMPLE_RATE)  # in bins
    if not spacing.any():
        return magnitude
    member = np.round(np.arange(BINS) / np.maximum(spacing, 1.0))
    lobe = _main_lobe(np.arange(BINS) - member * spacing) * np.sqrt(spacing / 1.5)  # its power is that of 1.5 bins
    comb = _smoothed(np.where((spacing > 0) & (member > 0), np.maximum(lobe, BETWEEN_SERIES), 1.0))
    below = np.log10((magnitude + 1e-9) / (magnitude.max(-1, keepdims=True) + 1e-9))
    return magnitude * (1 + np.clip(SERIES_DEPTH + below, 0, 1) * (comb - 1))


def _main_lobe(distance: np.ndarray) -> np.ndarray:
    """Of a Hann window, 1 at 0, by distance in bins; 0 from 2 on."""
    lobe = np.sinc(distance) + 0.5 * (np.sinc(distance - 1) + np.sinc(distance + 1))
    return np.where(np.abs(distance) < 2, lobe, 0.0)


def _levelled(amplitude: np.ndarray, hz: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Amplitudes [B, N, P] brought to within LEVEL_SLACK of their codes' levels, as means over 125 ms. Of two partials
    nearly as strong the stronger one stays it: that is most of what keeps a chord's pitch."""
    above = 20 * np.log10(_smoothed(amplitude) + 1e-6) - level
    least = np.where(level > LOWEST_DB, -LEVEL_SLACK, -np.inf)
    most = np.where(level < LOWEST_DB + STEP_DB * (LEVELS - 1), LEVEL_SLACK, np.inf)
    correction = np.clip(np.clip(above, least, most) - above, -12, 18)
    return np.where(hz > 0, amplitude * 10 ** (correction / 20), 0.0)


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Means of [B, N, ...] over 125 ms."""
    shape = np.hanning(2 * SMOOTHING + 3)[1:-1]
    padded = np.pad(values, ((0, 0), (SMOOTHING, SMOOTHING), (0, 0)), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, len(shape), axis=1) @ (shape / shape.sum())


def _oscillate(voices: np.ndarray, amplitude: np.ndarray, hz: np.ndarray, first: bool) -> np.ndarray:
    """The sound from the middle of the column before to that of the last, [B, t]; `voices` is changed.

    Two voices take turns at each place: where the partial is another one, one fades out while the other fades in.
    """
    if first:  # from the beginning to the middle of the first column all is as in it
        voices[:, 3] = voices[:, 4] = 0.0
        voices[:, 3, :, 0] = hz[:, 0]
        voices[:, 0, :, 0], voices[:, 1, :, 0] = amplitude[:, 0], hz[:, 0]
        head = _hold(voices)
    before = np.concatenate([voices[:, 3:4, :, 0], hz[:, :-1]], axis=1)
    both = (before > 0) & (hz > 0)
    cents = 1200 * np.abs(np.log2(np.where(both, hz, 1.0) / np.where(both, before, 1.0)))
    turns = ((before > 0) != (hz > 0)) | (cents > SAME_NOTE_CENTS)
    whose = (voices[:, 4:5, :, 0].astype(int) + np.cumsum(turns, axis=1)) % 2  # [B, N, P]
    on = (whose[..., None] == np.arange(2)) & (hz > 0)[..., None]  # [B, N, P, 2]
    to = np.where(on, amplitude[..., None], 0.0)
    start = np.concatenate([voices[:, 0:1], to[:, :-1]], axis=1)
    # A silent voice keeps its frequency, and takes up the new one where it sets in.
    f_to = np.empty(on.shape)
    held = voices[:, 1]
    for n in range(on.shape[1]):
        held = np.where(on[:, n], hz[:, n, :, None], held)
        f_to[:, n] = held
    f_from = np.concatenate([voices[:, 1:2], f_to[:, :-1]], axis=1)
    f_from = np.where(start > 0, f_from, f_to)
    new = slice(1, None) if first else slice(None)
    wav = _play(start[:, new], to[:, new], f_from[:, new], f_to[:, new], voices[:, 2], HOP)
    if first:
        wav = np.concatenate([head, wav], axis=1)
    voices[:, 0], voices[:, 1] = to[:, -1], f_to[:, -1]
    voices[:, 3, :, 0], voices[:, 4, :, 0] = hz[:, -1], whose[:, -1]
    return wav


def _hold(voices: np.ndarray) -> np.ndarray:
    """Half a column more, as the last one ended."""
    return _play(voices[:, 0:1], voices[:, 0:1], voices[:, 1:2], voices[:, 1:2], voices[:, 2], HOP // 2)


def _play(
    a_from: np.ndarray, a_to: np.ndarray, f_from: np.ndarray, f_to: np.ndarray, turn: np.ndarray, samples: int
) -> np.ndarray:
    """Sines [B, N, P, 2] whose amplitude and Hz move in straight lines over `samples` samples a column, summed:
    [B, N * samples]. `turn` [B, P, 2], their phases before and after, is changed."""
    scale = 2 * np.pi / SAMPLE_RATE
    whole = scale * samples * (f_from + f_to) / 2
    begin = turn[:, None] + np.cumsum(whole, axis=1) - whole
    turn[...] = (turn + whole.sum(axis=1)) % (2 * np.pi)
    where = np.nonzero((a_from > 0) | (a_to > 0))
    s = (np.arange(samples) + 0.5) / samples
    a0, a1, f0, f1 = (x[where][:, None] for x in (a_from, a_to, f_from, f_to))
    phase = begin[where][:, None] + scale * samples * (f0 * s + (f1 - f0) * s**2 / 2)
    out = np.zeros((len(turn), a_to.shape[1], samples))
    np.add.at(out, where[:2], (a0 + (a1 - a0) * s) * np.sin(phase))
    return out.reshape(len(turn), -1)


def _settle_block(state: SinesState, commit: int) -> np.ndarray:
    """Phases of the first `commit` columns that wait, by rounds of "what would this sound's spectrum be"; [B, t]."""
    magnitude = state.waiting[:, : BLOCK + AHEAD]
    columns, begun = magnitude.shape[1], state.spectra.shape[1]
    if columns > begun:
        state.spectra = np.concatenate([state.spectra, _first_phases(state, magnitude[:, begun:])], axis=1)
    gain = _gain_of(columns)
    spectra = state.spectra
    for round_ in range(ROUNDS + 1):
        pieces = np.fft.irfft(spectra, WINDOW, axis=2).astype(_F32) * _HANN
        wav = _overlap(state.tail, pieces)
        if round_ == ROUNDS:
            break
        windows = np.lib.stride_tricks.sliding_window_view(wav / gain, WINDOW, axis=1)[:, ::HOP]
        heard = np.fft.rfft(windows * _HANN, axis=2)
        spectra = (magnitude * heard / (np.abs(heard) + 1e-9)).astype(np.complex64)
    wav = _overlap(state.tail, pieces[:, :commit])
    state.tail = wav[:, commit * HOP :]
    state.waiting, state.spectra = state.waiting[:, commit:], spectra[:, commit:]
    state.turn = np.angle(spectra[:, -1]).astype(float)
    return wav[:, : commit * HOP] / np.resize(_GAIN, commit * HOP)


@lru_cache(maxsize=BLOCK + AHEAD)
def _gain_of(columns: int) -> np.ndarray:
    """Sum of squared windows over so many columns after full ones, [(columns - 1) * HOP + WINDOW]."""
    squares = np.broadcast_to(_HANN**2, (1, COLUMNS - 1 + columns, WINDOW))
    return np.maximum(_overlap(np.zeros((1, _TAIL), _F32), squares)[0, _TAIL:], 1e-2)


def _click_block(state: SinesState, commit: int) -> np.ndarray:
    """As `_settle_block`: spectra whose phases are those of a click in the middle of their frame."""
    number = state.begun + np.arange(commit)
    place = WINDOW / 2 + FRAME / 2 - HOP / 2 - HOP * (number % COLUMNS)  # of the click in each column's window
    phases = np.exp(-2j * np.pi * place[:, None] * np.arange(BINS) / WINDOW).astype(np.complex64)
    pieces = np.fft.irfft(state.waiting[:, :commit] * phases, WINDOW, axis=2).astype(_F32) * _HANN
    wav = _overlap(state.tail, pieces)
    state.tail, state.waiting = wav[:, commit * HOP :], state.waiting[:, commit:]
    state.begun += commit
    return wav[:, : commit * HOP] / np.resize(_GAIN, commit * HOP)


def _overlap(tail: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """Windowed pieces [B, n, WINDOW], HOP apart, added to a tail [B, _TAIL]: [B, n * HOP + _TAIL]."""
    clips, count, _ = pieces.shape
    parts = pieces.reshape(clips, count, COLUMNS, HOP)
    wav = np.zeros((clips, count + COLUMNS - 1, HOP), _F32)
    wav[:, : COLUMNS - 1] = tail.reshape(clips, COLUMNS - 1, HOP)
    for i in range(COLUMNS):
        wav[:, i : i + count] += parts[:, :, i]
    return wav.reshape(clips, -1)


def _first_phases(state: SinesState, magnitude: np.ndarray) -> np.ndarray:
    """Spectra [B, n, BINS] to begin with: a peak turns on from the column before at its own frequency and takes the
    bins beside it along; between peaks phases are scattered, or smooth spectra would click once a column."""
    log = np.log(magnitude + 1e-6)
    k = np.arange(BINS)
    peak = np.zeros(magnitude.shape, bool)
    peak[..., 1:-1] = (log[..., 1:-1] > log[..., :-2]) & (log[..., 1:-1] >= log[..., 2:])
    sums = np.cumsum(np.pad(log, ((0, 0), (0, 0), (5, 4)), mode="edge"), axis=2)
    peak &= log - (sums[..., 9:] - sums[..., :-9]) / 9 > PEAK
    below = np.maximum.accumulate(np.where(peak, k, -BINS), axis=-1)
    above = np.minimum.accumulate(np.where(peak, k, 2 * BINS)[..., ::-1], axis=-1)[..., ::-1]
    own = np.where(k - below <= above - k, below, above)  # the nearest peak
    carried = np.abs(k - own) <= LOBE
    own = np.where(carried, own, k)
    number = (state.begun + np.arange(magnitude.shape[1]))[:, None]
    scattered = 2 * np.pi * (np.sin(12.9898 * k + 78.233 * (number % 4093)) * 43758.5453 % 1)
    state.begun += magnitude.shape[1]
    clips, columns = np.arange(len(log))[:, None, None], np.arange(log.shape[1])[None, :, None]
    left, mid, right = (log[clips, columns, np.clip(own + d, 0, BINS - 1)] for d in (-1, 0, 1))
    curve = np.minimum(left - 2 * mid + right, -1e-9)
    offset = np.clip(0.5 * (left - right) / curve, -0.5, 0.5)
    step = (own + offset) * (2 * np.pi * HOP / WINDOW) - np.pi * (k - own)
    turns = np.empty(magnitude.shape)
    turn = state.turn
    for n in range(magnitude.shape[1]):
        onward = (turn[clips[:, 0], own[:, n]] + step[:, n]) % (2 * np.pi)
        turn = turns[:, n] = np.where(carried[:, n], onward, scattered[n])
    state.turn = turn
    return magnitude * np.exp(1j * turns.astype(_F32))
