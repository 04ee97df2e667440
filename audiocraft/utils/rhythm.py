"""Onsets, beat and tempo of a sound, from the autocorrelation of its onset curve (Ellis, Beat Tracking by Dynamic
Programming, 2007, takes the same way to a tempo)."""

import typing as tp

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

FRAME_RATE = 100  # of onset curves, Hz
CLEAR_BEAT = 0.25  # beats below this are none to go by
_WINDOW_SECONDS = 0.032
_LAGS = slice(15, 80)  # frames between beats: 400 to 75 BPM
_AHEAD = 0.016  # seconds by which the curve rises before an onset: half a window reaches it first
_BLOCK = 4096  # frames at once, so that memory does not grow with the sound

Curve: tp.TypeAlias = NDArray[np.float32]


class BeatGrid(tp.NamedTuple):
    """Where the beats of a sound are, if it has a steady one.

    strength: as `beat_and_lag` gives it, -1 to 1.
    period: seconds from beat to beat, 1/3 to 0.8.
    first: seconds from the start to the first one, less than `period` unless the sound begins late.
    """

    strength: float
    period: float
    first: float

    @property
    def is_clear(self) -> bool:
        return self.strength >= CLEAR_BEAT

    def beat_before(self, seconds: float) -> float:
        """The last beat up to a place, or the place itself before the first one."""
        beats = (seconds - self.first) // self.period
        return self.first + beats * self.period if beats >= 0 else seconds


def onset_curve(wav: torch.Tensor | NDArray[np.float32], sample_rate: int = 32000) -> Curve:
    """How much the spectrum brightens from frame to frame: the summed rises of log(1 + 100 magnitude) (spectral flux).

    Args:
        wav: [T] or [C, T], which is mixed down.
    Returns:
        [F], 100 values a second, the first one for the step from 0 to 10 ms; empty for less than two windows of 32 ms.
    """
    mono = torch.as_tensor(wav, dtype=torch.float32)
    mono = mono if mono.dim() == 1 else mono.mean(0)
    if sample_rate % FRAME_RATE and len(mono):  # hops are whole samples
        exact = -(-sample_rate // FRAME_RATE) * FRAME_RATE
        size = round(len(mono) * exact / sample_rate)
        mono, sample_rate = F.interpolate(mono[None, None], size=size, mode="linear")[0, 0], exact
    window, hop = round(_WINDOW_SECONDS * sample_rate) // 2 * 2, sample_rate // FRAME_RATE
    if len(mono) < 2 * window:
        return np.zeros(0, np.float32)
    padded = F.pad(mono[None], (window // 2, window // 2), mode="reflect")[0]
    hann = torch.hann_window(window, device=mono.device)
    steps = (len(padded) - window) // hop
    parts = []
    for start in range(0, steps, _BLOCK):
        count = min(_BLOCK, steps - start)
        piece = padded[start * hop : (start + count) * hop + window]
        spectrum = torch.stft(piece, window, hop, window=hann, center=False, return_complex=True).abs()
        parts.append(torch.log1p(100 * spectrum).diff(dim=1).clamp(min=0).sum(0))
    return torch.cat(parts).cpu().numpy()


def autocorrelation(curve: Curve) -> NDArray[np.float64]:
    """[F]: of the curve less its mean, by lag in frames, 1 at lag 0 (0 everywhere for a curve that never moves)."""
    centred = curve.astype(np.float64) - (curve.mean() if len(curve) else 0)
    size = 1 << (2 * len(centred)).bit_length()
    products = np.fft.irfft(np.abs(np.fft.rfft(centred, size)) ** 2, size)[: len(centred)]
    return products / (products[:1] + 1e-9)


def beat_and_lag(curve: Curve) -> tuple[float, float]:
    """How regularly a sound beats, from its onset curve: the highest autocorrelation at 0.15 to 0.8 s, 0 is not at all;
    and the seconds between onsets that it was found at (nan if there is too little sound)."""
    return _peak(autocorrelation(curve))


def beat_grid(curve: Curve) -> BeatGrid:
    """The beats of a sound, from its onset curve.

    The period is that lag, doubled where it is shorter than 1/3 s, and made exact by following it to peaks at
    ever greater multiples: after minutes the grid is still on the beat of what was made by a machine. It starts where
    the most onsets lie on it.
    """
    correlation = autocorrelation(curve)
    strength, lag = _peak(correlation)
    if not lag > 0 or strength < CLEAR_BEAT:
        return BeatGrid(strength, lag, 0.0)
    lag *= FRAME_RATE
    while lag < FRAME_RATE / 3:
        lag *= 2
    lag = _exact(correlation, lag)
    first = _phase(curve, lag)
    return BeatGrid(strength, lag / FRAME_RATE, first / FRAME_RATE + _AHEAD)


def bpm(period: float) -> float:
    """Beats a minute of a period in seconds, halved or doubled into 90 to 180: which octave is meant, no ear agrees."""
    tempo = 60 / period
    while tempo < 90:
        tempo *= 2
    while tempo >= 180:
        tempo /= 2
    return tempo


def _peak(correlation: NDArray[np.float64]) -> tuple[float, float]:
    """Height of the highest autocorrelation between the lags of a beat, and its lag in seconds, between frames too."""
    if len(correlation) <= _LAGS.stop:
        return 0.0, float("nan")
    at = _LAGS.start + int(correlation[_LAGS].argmax())
    return float(correlation[at]), _between(correlation, at) / FRAME_RATE


def _between(values: NDArray[tp.Any], at: int) -> float:
    """Where the parabola through a peak and its neighbours has its top."""
    low, mid, high = (float(values[at + step]) for step in (-1, 0, 1))
    bend = low - 2 * mid + high
    return at + (float(np.clip(0.5 * (low - high) / bend, -0.5, 0.5)) if bend < 0 else 0.0)


def _exact(correlation: NDArray[np.float64], lag: float) -> float:
    """The lag, from its peak at ever greater multiples, as long as there is one where it has to be."""
    times = 2
    while (times + 1) * lag < 0.75 * len(correlation):
        centre, reach = round(times * lag), 3
        near = correlation[centre - reach : centre + reach + 1]
        at = int(near.argmax())
        # Fewer products are summed at greater lags.
        full = len(correlation) / (len(correlation) - centre)
        if not 0 < at < 2 * reach or near[at] * full < CLEAR_BEAT:
            break
        lag = _between(correlation, centre - reach + at) / times
        times = times * 3 // 2 if times > 2 else 3
    return lag


def _phase(curve: Curve, lag: float) -> float:
    """Frames to the first beat: the start whose grid of `lag` frames holds the most onsets, to a tenth of a frame."""
    beats = np.arange(int((len(curve) - 2) / lag))
    starts = np.arange(0, lag, 0.1)
    places = starts[:, None] + beats * lag
    held = np.interp(places.ravel(), np.arange(len(curve)), curve).reshape(places.shape)
    best = int(held.sum(1).argmax())
    loud = held[best] > 0.3 * held[best].mean()
    return float(starts[best] + lag * int(loud.argmax()))
