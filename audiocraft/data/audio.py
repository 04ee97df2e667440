"""Reading and writing audio files.

soundfile (libsndfile) reads wav, flac, ogg, mp3, aiff and more; what it cannot read goes to PyAV. Neither is imported
before the first file is touched.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from ..errors import UserError
from .audio_utils import MOST_CHANNELS, i16_pcm, normalize_audio

# Endings that libsndfile never reads: PyAV goes first there.
_AV_FIRST = {".m4a", ".aac", ".mp4", ".m4b", ".mov", ".mkv", ".mka", ".webm", ".wma", ".avi", ".3gp"}
_WRITE_SUFFIX = {"wav": ".wav", "flac": ".flac", "ogg": ".ogg", "mp3": ".mp3"}
# libsndfile's Vorbis encoder keeps a whole write on the stack, so long files are written in blocks.
_WRITE_BLOCK = 1 << 16
# Times full scale (80 dB above it): louder samples are no sound but bytes read wrongly, and one such file drowns all
# others in a mean or a gradient.
_LOUDEST = 1e4


class UnreadableAudio(UserError):
    """A file that gives no usable audio; `reason` says why in a few words."""

    def __init__(self, message: str, path: str | Path = "", reason: str = "") -> None:
        super().__init__(message)
        self.path = str(path)
        self.reason = reason or message

    @classmethod
    def of(cls, path: str | Path, reason: str) -> "UnreadableAudio":
        reason = " ".join(reason.split()).rstrip(".")
        return cls(f"{path} cannot be read as audio: {reason}; replace the file or leave it out", path, reason)


@dataclass(order=True)
class AudioFileInfo:
    """What a file's header says: `sample_rate` in Hz, `duration` in seconds, `channels`."""

    sample_rate: int
    duration: float
    channels: int


def audio_info(filepath: str | Path) -> AudioFileInfo:
    """Sample rate, duration and channels of a file, without decoding it.

    Raises:
        UnreadableAudio: no such file, an empty one, or none that soundfile or PyAV can read.
    """
    return _first_that_reads(filepath, _soundfile_info, _av_info)


def audio_read(
    filepath: str | Path, seek_time: float = 0.0, duration: float = -1.0, pad: bool = False
) -> tuple[torch.Tensor, int]:
    """Read a file or a stretch of it.

    Args:
        filepath: any file that soundfile or PyAV reads, whatever its rate, depth and channel count.
        seek_time: where to begin, in seconds.
        duration: how much to read, in seconds; negative for everything up to the end.
        pad: whether to fill up with zeros to `duration` if the file ends before.

    Returns:
        The wave [C, T], float32 in [-1, 1], and the file's own sample rate in Hz.
        T is 0 when `seek_time` lies past the end.

    Raises:
        UnreadableAudio: as `audio_info`, or the file cannot be decoded, or it holds NaN, infinite or absurdly loud
            samples.
    """
    seek_time = max(0.0, seek_time)
    wav, sample_rate = _first_that_reads(
        filepath,
        lambda path: _soundfile_read(path, seek_time, duration),
        lambda path: _av_read(path, seek_time, duration),
    )
    _check_samples(wav, filepath)
    if pad and duration > 0:
        wav = F.pad(wav, (0, max(0, int(duration * sample_rate) - wav.shape[-1])))
    return wav, sample_rate


def audio_blocks(filepath: str | Path, seconds: float = 30.0) -> tuple[Iterator[torch.Tensor], int]:
    """A whole file as consecutive blocks [C, t] of about `seconds`, and its sample rate; for files too long to hold at
    once.

    Raises:
        UnreadableAudio: as `audio_read`; the blocks raise it too, when the broken place is reached.
    """
    blocks, rate = _first_that_reads(
        filepath, lambda path: _soundfile_blocks(path, seconds), lambda path: _av_blocks(path, seconds)
    )

    def checked() -> Iterator[torch.Tensor]:
        try:
            for block in blocks:
                _check_samples(block, filepath)
                yield block
        except ValueError as error:
            raise UnreadableAudio.of(filepath, str(error)) from error

    return checked(), rate


def _check_samples(wav: torch.Tensor, path: str | Path) -> None:
    """Raise UnreadableAudio where samples [C, T] cannot be meant as sound."""
    if not torch.isfinite(wav).all():
        raise UnreadableAudio.of(path, "it holds NaN or infinite samples")
    if wav.numel() and (peak := wav.abs().max().item()) > _LOUDEST:
        raise UnreadableAudio.of(path, f"its samples reach {peak:.1e} times full scale")


def _first_that_reads(path: str | Path, by_soundfile: Any, by_av: Any) -> Any:
    path = Path(path)
    if not path.is_file():
        kind = "it is a folder" if path.is_dir() else "there is no such file"
        raise UnreadableAudio.of(path, kind)
    if not os.access(path, os.R_OK):
        raise UnreadableAudio.of(path, "permission denied")
    if path.stat().st_size == 0:
        raise UnreadableAudio.of(path, "the file is empty")
    readers = [by_soundfile, by_av]
    if path.suffix.lower() in _AV_FIRST:
        readers.reverse()
    reasons: list[str] = []
    for reader in readers:
        try:
            return reader(path)
        except ValueError as error:
            reasons.append(str(error))
    # The first reader is the one that ought to know this kind of file, so its reason is the one worth telling.
    raise UnreadableAudio.of(path, reasons[0])


def _soundfile_info(path: Path) -> AudioFileInfo:
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            return AudioFileInfo(file.samplerate, file.frames / file.samplerate, file.channels)
    except (soundfile.LibsndfileError, OSError) as error:
        raise ValueError(_soundfile_reason(error)) from error


def _soundfile_read(path: Path, seek_time: float, duration: float) -> tuple[torch.Tensor, int]:
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            file.seek(min(int(seek_time * rate), file.frames))
            frames = -1 if duration < 0 else int(duration * rate)
            # libsndfile scales integers of any depth to [-1, 1).
            samples = file.read(frames, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise ValueError(_soundfile_reason(error)) from error
    return torch.from_numpy(samples.T).contiguous(), rate


def _soundfile_blocks(path: Path, seconds: float) -> tuple[Iterator[torch.Tensor], int]:
    import soundfile

    try:
        file = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, OSError) as error:
        raise ValueError(_soundfile_reason(error)) from error
    rate = file.samplerate

    def blocks() -> Iterator[torch.Tensor]:
        try:
            with file:
                # Not file.blocks(): it trusts the header, and gives whatever memory held where a file was cut off.
                while len(samples := file.read(max(1, int(seconds * rate)), dtype="float32", always_2d=True)):
                    yield torch.from_numpy(samples.T).contiguous()
        except (soundfile.LibsndfileError, OSError) as error:
            raise ValueError(_soundfile_reason(error)) from error

    return blocks(), rate


def _soundfile_reason(error: Exception) -> str:
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    # libmpg123 finding no MP3 frame comes out as "File does not exist or is not a regular file".
    return "it is not an audio file" if "not recognised" in text or "not a regular file" in text else text.lower()


def _av_info(path: Path) -> AudioFileInfo:
    from .av_audio import av_info

    return AudioFileInfo(*av_info(path))


def _av_read(path: str | Path, seek_time: float = 0.0, duration: float = -1.0) -> tuple[torch.Tensor, int]:
    from .av_audio import av_read

    samples, rate = av_read(path, seek_time, duration)
    return torch.from_numpy(samples), rate


def _av_blocks(path: Path, seconds: float) -> tuple[Iterator[torch.Tensor], int]:
    from .av_audio import av_blocks

    frames, rate = av_blocks(path)

    def blocks() -> Iterator[torch.Tensor]:
        held: list[torch.Tensor] = []
        for frame in frames:
            held.append(torch.from_numpy(frame))
            if sum(part.shape[1] for part in held) >= seconds * rate:
                yield torch.cat(held, dim=1)
                held = []
        if held:
            yield torch.cat(held, dim=1)

    return blocks(), rate


def written_suffix(format: str) -> str:
    """Ending of the files that `audio_write` makes of a format.

    Raises:
        UserError: it does not write that format.
    """
    if format not in _WRITE_SUFFIX:
        raise UserError(f"audio cannot be written as {format!r}; choose one of {', '.join(_WRITE_SUFFIX)}")
    return _WRITE_SUFFIX[format]


def audio_write(
    stem_name: str | Path,
    wav: torch.Tensor,
    sample_rate: int,
    format: str = "wav",
    mp3_rate: int = 320,
    ogg_rate: int | None = None,
    normalize: bool = True,
    strategy: str = "peak",
    peak_clip_headroom_db: float = 1,
    rms_headroom_db: float = 18,
    loudness_headroom_db: float = 14,
    loudness_compressor: bool = False,
    log_clipping: bool = True,
    make_parent_dir: bool = True,
    add_suffix: bool = True,
) -> Path:
    """Normalise a wave and write it, 16 bits deep where the format has a depth. The file is whole or not there.

    Args:
        stem_name: where to, without the ending.
        wav: [C, T] or [T], floating point.
        sample_rate: in Hz.
        format: wav, flac, ogg (Vorbis) or mp3.
        mp3_rate: kb/s; the nearest that the format has at this sample rate.
        ogg_rate: kb/s, approximately (Vorbis knows qualities, not rates); None for the encoder's default.
        normalize, strategy, …_headroom_db, loudness_compressor, log_clipping: as in `audio_utils.normalize_audio`.
        make_parent_dir: make the folder if it is missing.
        add_suffix: add the format's ending to the name.

    Returns:
        The path written.

    Raises:
        UserError: unknown format, more than 8 channels, NaN samples, a rate the format cannot hold, a missing folder,
            a full disk.
    """
    suffix = written_suffix(format)
    if not wav.is_floating_point() or wav.dim() > 2:
        raise ValueError(f"wav must be floating point [C, T] or [T], not {wav.dtype} {tuple(wav.shape)}")
    path = Path(stem_name)
    if add_suffix:
        path = path.with_name(path.name + suffix)
    wav = wav.detach().float().cpu()
    wav = wav[None] if wav.dim() == 1 else wav
    if wav.shape[0] > MOST_CHANNELS:
        raise UserError(
            f"{path} was not written: audio is [C, T] with at most {MOST_CHANNELS} channels, this is "
            f"{list(wav.shape)}; transpose [T, C]"
        )
    if not torch.isfinite(wav).all():
        raise UserError(f"{path} was not written: the audio holds NaN or infinite samples; the model has diverged")
    wav = normalize_audio(
        wav,
        normalize,
        strategy,
        peak_clip_headroom_db,
        rms_headroom_db,
        loudness_headroom_db,
        loudness_compressor,
        log_clipping=log_clipping,
        sample_rate=sample_rate,
        stem_name=str(path),
    )
    if not make_parent_dir and not path.parent.is_dir():
        raise UserError(f"{path} cannot be written: there is no folder {path.parent}; make it first")
    _encode(path, wav, sample_rate, format, mp3_rate, ogg_rate)
    return path


def _encode(path: Path, wav: torch.Tensor, rate: int, format: str, mp3_rate: int, ogg_rate: int | None) -> None:
    import errno

    import soundfile

    from ..utils.files import atomic_path, free_bytes

    options: dict[str, Any] = {"subtype": {"ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}.get(format, "PCM_16")}
    if format == "mp3":
        options |= {"bitrate_mode": "CONSTANT", "compression_level": _mp3_level(mp3_rate, rate)}
    elif format == "ogg" and ogg_rate is not None:
        options |= {"compression_level": 1.0 - _vorbis_quality(ogg_rate, wav.shape[0])}
    samples = i16_pcm(wav).T.numpy() if options["subtype"] == "PCM_16" else wav.T.numpy()
    with atomic_path(path) as temporary:
        try:
            with soundfile.SoundFile(temporary, "w", rate, wav.shape[0], format=format.upper(), **options) as file:
                for begin in range(0, len(samples), _WRITE_BLOCK):
                    file.write(samples[begin : begin + _WRITE_BLOCK])
        except (soundfile.LibsndfileError, AssertionError) as error:
            # libsndfile tells of a failed or short write without saying why.
            if free_bytes(path.parent) < (1 << 20):
                raise OSError(errno.ENOSPC, "no space left") from error
            raise UserError(
                f"{path} cannot be written: {format} does not hold {wav.shape[0]} channels at {rate} Hz"
                f" ({_soundfile_reason(error)}); choose another rate or wav"
            ) from error


def _mp3_level(kbps: int, sample_rate: int) -> float:
    """libsndfile's compression level in [0, 1] for a constant bit rate.

    It maps the level linearly onto the rates of the MPEG version that the sample rate implies (ISO 11172-3, 13818-3).
    """
    low, high = (32, 320) if sample_rate >= 32000 else (8, 160) if sample_rate >= 16000 else (8, 64)
    return (high - min(max(kbps, low), high)) / (high - low)


def _vorbis_quality(kbps: int, channels: int) -> float:
    """Vorbis quality in [0, 1] whose nominal rate is nearest, by the encoder's table for 44.1 kHz stereo."""
    nominal = (64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 500)
    stereo = kbps * 2 / channels
    for step, (low, high) in enumerate(pairwise(nominal)):
        if stereo <= high:
            return (step + max(0.0, (stereo - low) / (high - low))) / 10
    return 1.0
