"""Reading and writing audio files.

`readers` says who reads what; neither soundfile (libsndfile) nor PyAV is imported before the first file is touched.
"""

import logging
import typing as tp
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch.nn import functional as F

from ..errors import UserError
from .audio_utils import MOST_CHANNELS, i16_pcm, normalize_audio
from .readers import AudioFile, check_samples, open_audio, sound_reason

logger = logging.getLogger(__name__)

_WRITE_SUFFIX = {"wav": ".wav", "flac": ".flac", "ogg": ".ogg", "mp3": ".mp3"}
# libsndfile's Vorbis encoder keeps a whole write on the stack, so long files are written in blocks.
_WRITE_BLOCK = 1 << 16
# Paths and what was said of them in this process.
_told: set[tuple[str, str]] = set()


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
    """Sample rate, duration and channels of a file: what reading all of it gives, found without decoding it where its
    format allows.

    Raises:
        UnreadableAudio: no such file, an empty one, or none that soundfile or PyAV can read.
    """
    with reading(filepath):
        file = open_audio(filepath)
    return AudioFileInfo(file.rate, file.duration, file.channels)


def audio_read(
    filepath: str | Path, seek_time: float = 0.0, duration: float = -1.0, pad: bool = False
) -> tuple[torch.Tensor, int]:
    """Read a file or a stretch of it; a stretch is to the bit what the whole file holds there.

    What is odd about the file is logged once.

    Args:
        filepath: any file that soundfile or PyAV reads, whatever its name, rate, depth and channel count. Files in a
            row (chained ogg, joined mp3) are one.
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
    wav, file = read_stretch(filepath, seek_time, duration)
    _log_notes(file)
    if pad and duration > 0:
        wav = F.pad(wav, (0, max(0, int(duration * file.rate) - wav.shape[-1])))
    return wav, file.rate


def audio_blocks(filepath: str | Path, seconds: float = 30.0) -> tuple[tp.Iterator[torch.Tensor], int]:
    """A whole file as consecutive blocks [C, t] of `seconds` (the last is what is left), and its sample rate; for files
    too long to hold at once. Joined they are what `audio_read` gives.

    Raises:
        UnreadableAudio: as `audio_read`; the blocks raise it too, when the broken place is reached.
    """
    with reading(filepath):
        file = open_audio(filepath)
    size = max(1, int(seconds * file.rate))

    def blocks() -> tp.Iterator[torch.Tensor]:
        held: list[torch.Tensor] = []
        missing = size
        with reading(filepath):
            _log_notes(file)
            try:
                for part in file.parts(0, file.frames):
                    check_samples(part)
                    while part.shape[1] >= missing:
                        yield torch.cat([*held, part[:, :missing]], dim=1)
                        held, part, missing = [], part[:, missing:], size
                    held.append(part)
                    missing -= part.shape[1]
            finally:
                _log_notes(file)
        if missing < size:
            yield torch.cat(held, dim=1)

    return blocks(), file.rate


_av_read = audio_read  # under which the peer's own tests read


def read_stretch(path: str | Path, seek_time: float, duration: float) -> tuple[torch.Tensor, AudioFile]:
    """What `audio_read` gives, without padding and without a word in the log, and the file it is from."""
    with reading(path):
        file = open_audio(path)
        first = int(max(0.0, seek_time) * file.rate)
        wav = file.read(first, file.frames if duration < 0 else first + int(duration * file.rate))
        check_samples(wav)
        return wav, file


def untold(path: str | Path, notes: list[str]) -> list[str]:
    """Of what is odd about a file, what was not said yet in this process; it counts as said from now on."""
    path = str(Path(path).absolute())
    new = [note for note in notes if (path, note) not in _told]
    _told.update((path, note) for note in new)
    return new


def _log_notes(file: AudioFile) -> None:
    for note in untold(file.path, file.notes()):
        logger.warning("%s: %s", file.path, note)


@contextmanager
def reading(path: str | Path) -> tp.Iterator[None]:
    """Tells of everything that goes wrong with a file by its name."""
    try:
        yield
    except ValueError as error:
        raise UnreadableAudio.of(path, str(error)) from error
    except OSError as error:
        absent = isinstance(error, FileNotFoundError) or not Path(path).exists()
        reason = "there is no such file" if absent else str(error.strerror or error).lower()
        raise UnreadableAudio.of(path, reason) from error


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
    headrooms = (peak_clip_headroom_db, rms_headroom_db, loudness_headroom_db)
    more = {"loudness_compressor": loudness_compressor, "log_clipping": log_clipping}
    wav = normalize_audio(wav, normalize, strategy, *headrooms, **more, sample_rate=sample_rate, stem_name=str(path))
    if not make_parent_dir and not path.parent.is_dir():
        raise UserError(f"{path} cannot be written: there is no folder {path.parent}; make it first")
    _encode(path, wav, sample_rate, format, mp3_rate, ogg_rate)
    return path


def _encode(path: Path, wav: torch.Tensor, rate: int, format: str, mp3_rate: int, ogg_rate: int | None) -> None:
    import errno

    import soundfile

    from ..utils.files import atomic_path, free_bytes

    options: dict[str, tp.Any] = {"subtype": {"ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}.get(format, "PCM_16")}
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
                f" ({sound_reason(error)}); choose another rate or wav"
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
