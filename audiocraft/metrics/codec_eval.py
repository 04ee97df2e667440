"""How a codec does on a set of files, next to others: distances, use of its codebooks, bits, speed.

Everything is compared at the first codec's rate and channels. Long files are coded and measured in clips of 30 s:
memory stays bounded whatever the length. Over the clips of a file SI-SDR and the STFT distance are those of the whole
(`sums`), and so are pitch, hum and onsets (`hearing`); the mel distances are means weighted by samples. Over files all
are plain means.
"""

import math
import statistics
import typing as tp
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from ..data.audio import UnreadableAudio, audio_blocks
from ..data.audio_utils import convert_audio
from ..errors import UserError
from ..utils.rhythm import onset_curve
from .codebooks import CodebookUsage, count_codes, usage_of_counts
from .coders import Coded, Coder
from .hearing import HumSums, OnsetSums, PitchSums, power_spectrum, strongest_peaks
from .reconstruction import log_mels, medians_over_time, mel_distance
from .sums import SILENT_POWER, SiSdrSums, StftSums, stft_magnitudes

CLIP_SECONDS = 30.0
# A last clip shorter than this joins the one before: too short to say anything by itself.
SHORTEST_CLIP = 1.0
LOW_BAND = 4000.0
SILENCE = "silence"
MEASURES = ("log_mel_db", "log_mel_below_4khz_db", "pitch_kept", "onsets", "stft", "si_sdr_db")


@dataclass
class FileScore:
    """One file through one coder. Measures as in `audiocraft.metrics`; those of the wave itself are None where the
    original is silent, `pitch_kept` also where it holds no tone, and so is what a baseline has not. `hum_db` by rates
    in Hz. Speeds are audio seconds per second of work."""

    file: str
    seconds: float
    log_mel_db: float
    log_mel_below_4khz_db: float
    pitch_kept: float | None = None
    onsets: float | None = None
    hum_db: dict[int, float] = field(default_factory=dict)
    stft: float | None = None
    si_sdr_db: float | None = None
    bits_per_second: float | None = None
    encode_speed: float | None = None
    decode_speed: float | None = None


@dataclass
class Score:
    """All files through one coder; kind is codec, codebooks, opus or baseline.

    For a codec, `bits_per_second` is the entropy of each codebook over all files × frame rate: what an ideal entropy
    coder would send. `nominal_bits_per_second` is what its plain codes take. Opus: what its packets take.
    """

    name: str
    kind: str
    files: list[FileScore] = field(default_factory=list)
    codebooks: list[CodebookUsage] = field(default_factory=list)
    frames: int = 0
    bits_per_second: float | None = None
    nominal_bits_per_second: float | None = None

    def mean(self, key: str) -> float | None:
        """Mean over the files that have this measure."""
        values = self._values(key)
        return statistics.fmean(values) if values else None

    def hums(self) -> dict[int, float]:
        """Mean over files of the hum in dB, by rates in Hz."""
        rates = sorted({rate for file in self.files for rate in file.hum_db})
        return {rate: statistics.fmean(f.hum_db[rate] for f in self.files if rate in f.hum_db) for rate in rates}

    def speed(self, direction: str) -> float | None:
        """Median over files of `encode` or `decode`, × real time."""
        values = self._values(f"{direction}_speed")
        return statistics.median(values) if values else None

    def _values(self, key: str) -> list[float]:
        return [value for file in self.files if (value := getattr(file, key)) is not None]

    def record(self) -> dict[str, tp.Any]:
        """Everything as plain values."""
        return {
            "name": self.name,
            "kind": self.kind,
            "mean": {**{key: _rounded(self.mean(key)) for key in MEASURES}, "hum_db": _plain(self.hums())},
            "bits_per_second": _rounded(self.bits_per_second, 1),
            "nominal_bits_per_second": _rounded(self.nominal_bits_per_second, 1),
            "encode_speed": _rounded(self.speed("encode"), 1),
            "decode_speed": _rounded(self.speed("decode"), 1),
            "frames": self.frames,
            "codebooks": [
                {key: _rounded(value) for key, value in {**asdict(one), "bits": one.bits}.items()}
                for one in self.codebooks
            ],
            "files": [_plain(asdict(file)) for file in self.files],
        }


@dataclass
class Evaluation:
    """What `evaluate` found: the coders' scores in their order, two baselines last, and the files that broke off.
    `hum_rates`: Hz at which the coders were asked for hum."""

    scores: list[Score]
    skipped: list[tuple[str, str]]
    sample_rate: int
    channels: int
    hum_rates: list[int]

    @property
    def seconds(self) -> float:
        """Audio measured."""
        return sum(file.seconds for file in self.scores[0].files)


def evaluate(
    coders: tp.Sequence[Coder],
    files: tp.Sequence[str | Path],
    sample_rate: int,
    channels: int,
    seconds: float | None = None,
    device: torch.device | str = "cpu",
    advance: tp.Callable[[float], object] = lambda seconds: None,
) -> Evaluation:
    """Code every file with every coder and compare.

    Args:
        coders: at least one.
        files: audio files.
        sample_rate, channels: what everything is compared at.
        seconds: how much of each file to take; None for all of it.
        device: where the codecs are.
        advance: called with the audio seconds (times coders) done since the last call.

    Returns:
        Scores of the coders, then of the baselines: silence, and each mel band held at its median over the clip. All
        coders are asked for hum at the frame rates and inner rates of all.

    Raises:
        UserError: none of the files can be read, or a coder refuses.
    """
    device = torch.device(device)
    measured: list[list[tuple[str, _Measure]]] = [[] for _ in coders]
    rates = sorted({round(rate) for coder in coders for rate in coder.inner_rates})
    baselines = [Score(SILENCE, "baseline"), Score("spectrum at its median", "baseline")]
    skipped: list[tuple[str, str]] = []
    # The first call on a device prepares kernels and buffers, which is nobody's coding time.
    for coder in coders:
        coder.code(torch.zeros(channels, sample_rate, device=device), sample_rate)
    for path in files:
        measures = [_Measure(coder.frame_rate, rates) for coder in coders]
        plain = [_Measure(), _Measure()]
        try:
            for clip in clips(path, sample_rate, channels, seconds):
                _measure_clip(clip.to(device), sample_rate, coders, measures, plain, advance)
        except UnreadableAudio as error:
            skipped.append((str(path), error.reason))
            continue
        if measures[0].samples == 0:
            skipped.append((str(path), f"it holds no samples at {sample_rate} Hz"))
            continue
        for found, measure in zip(measured, measures):
            found.append((str(path), measure))
        for baseline, measure in zip(baselines, plain):
            baseline.files.append(measure.score(str(path), sample_rate))
    if not baselines[0].files:
        reason = f" ({skipped[0][0]}: {skipped[0][1]})" if skipped else ""
        raise UserError(f"none of the {len(files)} files can be measured{reason}; give a folder of other audio")
    scores = [*(_score_of_all(coder, found, sample_rate) for coder, found in zip(coders, measured)), *baselines]
    heard = sorted({rate for score in scores for rate in score.hums()})
    return Evaluation(scores, skipped, sample_rate, channels, heard)


def clips(path: str | Path, sample_rate: int, channels: int, seconds: float | None = None) -> tp.Iterator[torch.Tensor]:
    """A file, or its first `seconds`, as consecutive clips [channels, T] at `sample_rate`, at most 31 s each.

    Raises UnreadableAudio, also when the broken place is reached.
    """
    blocks, rate = audio_blocks(path, CLIP_SECONDS)
    left = None if seconds is None else max(1, int(seconds * rate))
    held: torch.Tensor | None = None
    for block in blocks:
        if left is not None:
            block = block[:, :left]
            left -= block.shape[1]
        if held is not None and block.shape[1] >= SHORTEST_CLIP * rate:
            yield convert_audio(held, rate, sample_rate, channels)
            held = None
        held = block if held is None else torch.cat([held, block], dim=1)
        if left == 0:
            break
    if held is not None:
        yield convert_audio(held, rate, sample_rate, channels)


def _measure_clip(
    wav: torch.Tensor,
    sample_rate: int,
    coders: tp.Sequence[Coder],
    measures: tp.Sequence["_Measure"],
    baselines: tp.Sequence["_Measure"],
    advance: tp.Callable[[float], object],
) -> None:
    """Add a clip [C, T] to the measures of all coders and baselines."""
    if wav.shape[1] == 0:
        return
    original = _Features(wav, sample_rate)
    for coder, measure in zip(coders, measures):
        coded = coder.code(wav, sample_rate)
        measure.add(_Features(coded.wav, sample_rate), original)
        measure.add_coding(coded, wav.shape[1] / sample_rate, coder.bins)
        advance(wav.shape[1] / sample_rate)
    silence, median = baselines
    silence.add_mels(log_mels(torch.zeros_like(wav)[None], sample_rate), original)
    median.add_mels(medians_over_time(original.mels), original)


class _Features:
    """What the measures look at, computed once for an original that many are compared with."""

    def __init__(self, wav: torch.Tensor, sample_rate: int) -> None:
        # Not every operation needed here exists on mps.
        self.wav = wav if wav.device.type == "cuda" else wav.cpu()
        self.sample_rate = sample_rate
        self.mels = log_mels(self.wav[None], sample_rate)
        self.magnitudes = stft_magnitudes(self.wav)
        self.peaks = strongest_peaks(self.wav, sample_rate)
        self.power = power_spectrum(self.wav, sample_rate)
        self.onsets = torch.from_numpy(onset_curve(self.wav, sample_rate))[None]


class _Measure:
    """One file through one coder, clip by clip."""

    def __init__(self, frame_rate: float | None = None, hum_rates: tp.Sequence[int] = ()) -> None:
        self.frame_rate = frame_rate
        self.hum_rates = hum_rates
        self.samples = 0
        self.counts: torch.Tensor | None = None
        self._mels = [0.0, 0.0]
        self._stft, self._si_sdr = StftSums(), SiSdrSums()
        self._pitch, self._hum, self._onsets = PitchSums(), HumSums(), OnsetSums()
        self._encode = self._decode = self._sent = 0.0

    def add_mels(self, mels: list[torch.Tensor], original: _Features) -> None:
        """Take in log-mels that claim to be the original's."""
        samples = original.wav.shape[1]
        for i, f_max in enumerate((None, LOW_BAND)):
            self._mels[i] += samples * float(mel_distance(mels, original.mels, original.sample_rate, f_max))
        self.samples += samples

    def add(self, estimate: _Features, original: _Features) -> None:
        """Take in a clip."""
        self.add_mels(estimate.mels, original)
        self._stft.add(estimate.magnitudes, original.magnitudes)
        self._si_sdr.add(estimate.wav, original.wav)
        self._pitch.add(estimate.peaks, original.peaks)
        self._hum.add(estimate.power, original.power)
        self._onsets.add(estimate.onsets, original.onsets)

    def add_coding(self, coded: Coded, seconds: float, bins: int | None) -> None:
        """Take in times, and codes or bits, of a clip of so many seconds."""
        self._encode += coded.encode_seconds
        self._decode += coded.decode_seconds
        self._sent += seconds * (coded.bits_per_second or 0.0)
        if coded.codes is not None and bins is not None:
            counts = count_codes(coded.codes, bins)
            self.counts = counts if self.counts is None else self.counts + counts

    def score(self, file: str, sample_rate: int) -> FileScore:
        """The file's numbers."""
        seconds = self.samples / sample_rate
        score = FileScore(file, seconds, self._mels[0] / self.samples, self._mels[1] / self.samples)
        if self._si_sdr.samples == 0:
            return score
        if self._si_sdr.reference_power > SILENT_POWER:
            score.stft, score.si_sdr_db = self._stft.value(), self._si_sdr.value()
            score.pitch_kept, score.onsets = self._pitch.value(), self._onsets.value()
            hums = {rate: self._hum.value(rate) for rate in self.hum_rates}
            score.hum_db = {rate: hum for rate, hum in hums.items() if hum is not None}
        score.bits_per_second = self._sent / seconds
        if self.counts is not None and self.frame_rate is not None:
            score.bits_per_second = entropy_rate(self.counts, self.frame_rate)
        score.encode_speed, score.decode_speed = seconds / self._encode, seconds / self._decode
        return score


def _score_of_all(coder: Coder, measured: list[tuple[str, _Measure]], sample_rate: int) -> Score:
    """The numbers of a coder over all files."""
    score = Score(coder.name, coder.kind, [measure.score(file, sample_rate) for file, measure in measured])
    counts = [measure.counts for _, measure in measured if measure.counts is not None]
    if counts and coder.frame_rate is not None and coder.bins is not None:
        total = torch.stack(counts).sum(0)
        score.codebooks = usage_of_counts(total)
        score.frames = int(total[0].sum())
        score.bits_per_second = entropy_rate(total, coder.frame_rate)
        score.nominal_bits_per_second = len(total) * coder.frame_rate * math.log2(coder.bins)
    else:
        sent = sum(file.seconds * (file.bits_per_second or 0.0) for file in score.files)
        score.bits_per_second = sent / sum(file.seconds for file in score.files)
    return score


def entropy_rate(counts: torch.Tensor, frame_rate: float) -> float:
    """Bits per second of codebooks whose entries occurred `counts` [K, bins] times, at `frame_rate` frames per second.

    Counted on few frames it comes out too low: F frames show at most log2(F) bits.
    """
    return frame_rate * sum(usage.bits for usage in usage_of_counts(counts))


def _plain(values: dict[tp.Any, tp.Any]) -> dict[str, tp.Any]:
    """A record as JSON takes it."""
    kept: dict[str, tp.Any] = {}
    for key, value in values.items():
        kept[str(key)] = (
            _plain(value) if isinstance(value, dict) else value if isinstance(value, str) else _rounded(value)
        )
    return kept


def _rounded(value: float | None, digits: int = 4) -> float | None:
    """What JSON can hold: it knows neither NaN nor infinity."""
    return None if value is None or not math.isfinite(value) else round(value, digits)
