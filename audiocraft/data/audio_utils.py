"""Waves changed in memory: channels, rates, levels, integer samples."""

import math
import sys
import typing as tp
from functools import lru_cache

import torch

from ..errors import BadArgument, UserError

# julius builds one filter per output phase: `new` filters of about `old` taps, both reduced by their common divisor.
# Above this that is gigabytes (44101 -> 32000: 5.6 GB), so PyAV's resampler takes over.
_LARGEST_JULIUS_RATE = 2000
# PyAV's filter spans 32 samples of the lower rate, and gives nothing, or too little, of a signal hardly longer.
_AV_SHORTEST = 64
# BS.1770 measures in blocks of 0.4 s and says nothing about less.
_LOUDNESS_BLOCK = 0.4
_LOUDNESS_CHANNELS = 5
# Of a wave in memory; where there seem to be more, time and channels have changed places.
MOST_CHANNELS = 8


def convert_audio_channels(wav: torch.Tensor, channels: int = 2) -> torch.Tensor:
    """[..., C, T] to [..., channels, T]: mono is the mean of all, mono spreads to any number, of more the first are
    taken.

    Raises:
        BadArgument: several channels, but fewer than asked for.
    """
    source = wav.shape[-2]
    if source == channels:
        return wav
    if channels == 1:
        return wav.mean(dim=-2, keepdim=True)
    if source == 1:
        return wav.expand(*wav.shape[:-2], channels, wav.shape[-1])
    if source > channels:
        return wav[..., :channels, :]
    raise BadArgument(f"audio with {source} channels cannot become {channels} channels; mix it to mono or stereo first")


def convert_audio(wav: torch.Tensor, from_rate: float, to_rate: float, to_channels: int) -> torch.Tensor:
    """Resample [..., C, T] to [..., C, floor(T * to_rate / from_rate)] (rates in Hz), then convert its channels.

    Raises:
        UserError: as `convert_audio_channels`, or a rate below 1 Hz.
    """
    for rate in (from_rate, to_rate):
        if not 1 <= rate < math.inf:
            raise UserError(f"a sample rate of {rate:g} Hz is none; give that of the audio, such as 44100")
    return convert_audio_channels(resample(wav, int(from_rate), int(to_rate)), to_channels)


def resample(wav: torch.Tensor, from_rate: int, to_rate: int) -> torch.Tensor:
    """Resample [..., T] to [..., floor(T * to_rate / from_rate)] by windowed sinc (julius), on any device."""
    divisor = math.gcd(from_rate, to_rate)
    old, new = from_rate // divisor, to_rate // divisor
    if old == new:
        return wav
    if wav.shape[-1] == 0:
        return wav
    if max(old, new) > _LARGEST_JULIUS_RATE:
        return _resample_by_av(wav, from_rate, to_rate)
    return _julius_resampler(old, new, wav.device, wav.dtype)(wav)


@lru_cache(maxsize=16)
def _julius_resampler(old: int, new: int, device: torch.device, dtype: torch.dtype) -> tp.Any:
    # Kept, because computing the filters costs more than running them on a short segment.
    import julius

    return julius.ResampleFrac(old, new).to(device=device, dtype=dtype)


def _resample_by_av(wav: torch.Tensor, from_rate: int, to_rate: int) -> torch.Tensor:
    import av
    import numpy as np

    samples = wav.shape[-1]
    length = samples * to_rate // from_rate
    # The last sample is held, as julius does at its ends.
    held = max(0, _AV_SHORTEST * max(1, -(-from_rate // to_rate)) - samples)
    rows = []
    for channel in wav.reshape(-1, samples).float().cpu().numpy():
        channel = np.pad(channel, (0, held), mode="edge")
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=to_rate)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(channel[None]), format="fltp", layout="mono")
        frame.sample_rate = from_rate
        parts = [part.to_ndarray() for given in (frame, None) for part in resampler.resample(given)]
        row = torch.from_numpy(np.concatenate(parts, axis=1)[0, :length])
        rows.append(torch.nn.functional.pad(row, (0, length - row.shape[0])))
    return torch.stack(rows).view(*wav.shape[:-1], length).to(wav)


def loudness(wav: torch.Tensor, sample_rate: int) -> float:
    """Integrated loudness of [C, T] in LKFS (ITU-R BS.1770-4); -inf where nothing passes its gate.

    A signal shorter than the standard's 0.4 s block is measured as if it went on repeating itself.
    """
    import warnings

    import pyloudnorm

    if wav.shape[-1] == 0:
        return -math.inf
    if wav.shape[0] > _LOUDNESS_CHANNELS:
        # The standard gives no weights beyond five channels; energies add.
        powers = [10 ** (loudness(channel[None], sample_rate) / 10) for channel in wav]
        return 10 * math.log10(sum(powers)) if sum(powers) > 0 else -math.inf
    needed = math.ceil(_LOUDNESS_BLOCK * sample_rate) + 1
    repeats = -(-needed // wav.shape[-1])
    samples = wav.detach().double().cpu().repeat(1, repeats)
    with warnings.catch_warnings():
        # Silence makes its logarithms complain; -inf is the answer we want.
        warnings.simplefilter("ignore")
        return float(pyloudnorm.Meter(sample_rate).integrated_loudness(samples.T.numpy()))


def normalize_loudness(
    wav: torch.Tensor,
    sample_rate: int,
    loudness_headroom_db: float = 14,
    loudness_compressor: bool = False,
    energy_floor: float = 2e-3,
) -> torch.Tensor:
    """Scale [C, T] to a loudness of -`loudness_headroom_db` LKFS.

    Args:
        wav: [C, T].
        sample_rate: in Hz.
        loudness_headroom_db: target loudness below full scale, in dB.
        loudness_compressor: bend peaks with tanh afterwards.
        energy_floor: signals whose RMS is below this come back as they are.
    """
    if wav.numel() == 0 or wav.pow(2).mean().sqrt().item() < energy_floor:
        return wav
    measured = loudness(wav, sample_rate)
    if not math.isfinite(measured):
        return wav
    output = wav * 10 ** ((-loudness_headroom_db - measured) / 20)
    return torch.tanh(output) if loudness_compressor else output


def normalize_audio(
    wav: torch.Tensor,
    normalize: bool = True,
    strategy: str = "peak",
    peak_clip_headroom_db: float = 1,
    rms_headroom_db: float = 18,
    loudness_headroom_db: float = 14,
    loudness_compressor: bool = False,
    log_clipping: bool = False,
    sample_rate: int | None = None,
    stem_name: str | None = None,
) -> torch.Tensor:
    """Bring [C, T] to a level that can be written.

    Args:
        wav: [C, T].
        normalize: False only ever turns down ('peak' and 'rms'), never up.
        strategy: 'peak' puts the largest sample at -`peak_clip_headroom_db`; 'clip' cuts what is above it; 'rms' puts
            the RMS of the mono mix at -`rms_headroom_db`; 'loudness' puts the loudness at -`loudness_headroom_db` LKFS;
            'none' changes nothing. 'rms' and 'loudness' cut at full scale afterwards.
        loudness_compressor: with 'loudness', bend peaks with tanh.
        log_clipping: say on stderr when samples are cut at full scale.
        sample_rate: in Hz, needed by 'loudness'.
        stem_name: name to use in that message.

    Raises:
        UserError: unknown strategy, 'loudness' without a rate, or 'none' with samples at or above full scale.
    """
    if wav.numel() == 0:
        return wav
    if strategy == "peak":
        return _scaled(wav, _gain(peak_clip_headroom_db) / max(wav.abs().max().item(), 1e-30), normalize)
    if strategy == "clip":
        limit = _gain(peak_clip_headroom_db)
        return wav.clamp(-limit, limit)
    if strategy == "rms":
        rms = wav.mean(dim=0).pow(2).mean().sqrt().item()
        return _clipped(_scaled(wav, _gain(rms_headroom_db) / max(rms, 1e-30), normalize), log_clipping, stem_name)
    if strategy == "loudness":
        if sample_rate is None:
            raise UserError(
                "loudness cannot be measured without a sample rate; pass sample_rate or choose another strategy"
            )
        output = normalize_loudness(wav, sample_rate, loudness_headroom_db, loudness_compressor)
        return _clipped(output, log_clipping, stem_name)
    if strategy == "none":
        if wav.abs().max() >= 1:
            raise UserError(
                "strategy 'none' leaves samples at or above full scale; choose 'clip', 'peak', 'rms' or 'loudness'"
            )
        return wav
    raise UserError(f"there is no normalisation strategy {strategy!r}; choose peak, clip, rms, loudness or none")


def _gain(headroom_db: float) -> float:
    return 10 ** (-headroom_db / 20)


def _scaled(wav: torch.Tensor, factor: float, normalize: bool) -> torch.Tensor:
    if not (normalize or factor < 1):
        return wav
    # Silence stays silence, and a denormal peak does not become infinite.
    return wav * factor if math.isfinite(factor) and factor < 1e20 else wav


def _clipped(wav: torch.Tensor, log_clipping: bool, name: str | None) -> torch.Tensor:
    wav = wav.clone()
    _clip_wav(wav, log_clipping, name)
    return wav


def _clip_wav(wav: torch.Tensor, log_clipping: bool = False, stem_name: str | None = None) -> None:
    """Cut a wave at full scale, in place."""
    peak = wav.abs().max().item()
    if log_clipping and peak > 1:
        print(f"{stem_name or 'audio'}: peaks cut at full scale, the largest was {peak:.2f}", file=sys.stderr)
    wav.clamp_(-1, 1)


def f32_pcm(wav: torch.Tensor) -> torch.Tensor:
    """int16 or int32 samples as float32 in [-1, 1); floating point passes.

    Raises:
        ValueError: other integers.
    """
    if wav.is_floating_point():
        return wav
    if wav.dtype == torch.int16:
        return wav.float() / 2**15
    if wav.dtype == torch.int32:
        return wav.float() / 2**31
    raise ValueError(f"samples must be int16, int32 or floating point, not {wav.dtype}")


def i16_pcm(wav: torch.Tensor) -> torch.Tensor:
    """float samples in [-1, 1] as int16, rounded to nearest; int16 passes.

    One step of the scale is 2^-15. int16 ends one step below full scale: if a sample would round to that, all are
    scaled by 32767 instead, so that the shape of the wave is kept.

    Raises:
        ValueError: other integers.
    """
    if wav.dtype == torch.int16:
        return wav
    if not wav.is_floating_point():
        raise ValueError(f"samples must be int16 or floating point, not {wav.dtype}")
    wav = wav.float()  # half precision does not know 32767
    limits = torch.iinfo(torch.int16)
    overflows = bool((wav >= 1 - 2**-16).any())
    steps = limits.max if overflows else -limits.min
    return (wav * steps).round().clamp(limits.min, limits.max).short()
