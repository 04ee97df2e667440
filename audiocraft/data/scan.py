"""Looking through a folder for audio, and saying what was left out and why."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UserError
from .audio import UnreadableAudio, audio_blocks, audio_info
from .manifest import AudioMeta

DEFAULT_EXTS = (
    *(".wav", ".mp3", ".flac", ".ogg", ".m4a"),
    *(".aif", ".aiff", ".aifc", ".aac", ".opus", ".oga", ".caf", ".w64", ".rf64", ".au", ".wma"),
)
# Shorter files hold nothing to learn from: five codec frames at 50 frames per second.
MIN_DURATION = 0.1
# Largest sample below which a file counts as silent: -80 dB.
SILENCE = 1e-4
# Lines of one kind that a report prints.
_REPORT_LINES = 20
# Formats that can hold NaN and absurd peaks, so that a look at the header is not enough.
_FLOAT_SUBTYPES = {"FLOAT", "DOUBLE"}


@dataclass
class ScanReport:
    """What `scan_folder` found: usable files sorted by path, files left out with the reason, silent files (usable all
    the same), and how many files have endings that were not looked at."""

    folder: Path
    meta: list[AudioMeta] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    other: Counter[str] = field(default_factory=Counter)

    @property
    def duration(self) -> float:
        """Seconds of usable audio."""
        return sum(item.duration for item in self.meta)

    def lines(self) -> list[str]:
        """The report as lines of text."""
        minutes, seconds = divmod(round(self.duration), 60)
        out = [f"{_count(len(self.meta), 'audio file')} in {self.folder}, {minutes}:{seconds:02d} min in all"]
        if self.skipped:
            out.append(f"skipped {_count(len(self.skipped), 'file')}:")
            out += _shortened([f"  {_printable(path)}: {reason}" for path, reason in self.skipped])
        if self.silent:
            out.append(f"kept although silent, {_count(len(self.silent), 'file')}:")
            out += _shortened([f"  {path}" for path in self.silent])
        if self.other:
            kinds = ", ".join(f"{count} {ext or 'without ending'}" for ext, count in self.other.most_common(8))
            out.append(f"not looked at, no audio by their ending: {kinds}")
        return out


def scan_folder(
    path: str | Path,
    exts: Sequence[str] = DEFAULT_EXTS,
    complete: bool = False,
    workers: int = 0,
    progress: bool = False,
    resolve: bool = False,
    shortest: float = MIN_DURATION,
) -> ScanReport:
    """Find the audio files under a folder.

    Args:
        path: the folder; subfolders and linked folders are searched too, names that begin with a dot are not.
        exts: endings to look at, in any case of letters.
        complete: decode every file, fill in its largest sample and list silent files. Otherwise only files that can
            hold NaN or absurd peaks (floating point) are decoded.
        workers: threads; decoding happens outside Python's lock.
        progress: show a bar.
        resolve: give absolute paths instead of paths that begin as `path` does.
        shortest: seconds; files below are left out, and with 0 those without samples.

    Raises:
        UserError: no such folder, nothing in it, no audio in it, or none of the audio is usable.
    """
    root = Path(path)
    if not root.is_dir():
        kind = "is a file, not a folder" if root.exists() else "does not exist"
        raise UserError(f"{root} {kind}; give a folder that holds audio files")
    endings = {ext.lower() for ext in exts}
    report = ScanReport(root)
    found: list[str] = []
    for file in _walk(root, report):
        ending = file.suffix.lower()
        if ending in endings:
            # Not Path.resolve: a link to itself makes it fail.
            found.append(os.path.realpath(file) if resolve else str(file))
        elif ending not in (".json", ".jsonl", ".gz"):
            report.other[ending] += 1
    if not found and report.skipped:
        raise UserError(f"{': '.join(report.skipped[0])}; change its permissions or give another folder")
    if not found:
        raise UserError(
            f"{_nothing(report)}; put audio files there ({', '.join(DEFAULT_EXTS[:6])}, …) or give another folder"
        )
    _inspect_all(sorted(found), report, complete, workers, progress, shortest)
    if not report.meta:
        first, reason = report.skipped[0]
        which = "the only audio file" if len(found) == 1 else f"none of the {len(found)} audio files"
        verdict = "cannot" if len(found) == 1 else "can"
        raise UserError(f"{which} in {root} {verdict} be used ({first}: {reason}); add others or give another folder")
    return report


def find_audio_files(
    path: str | Path,
    exts: Sequence[str] = DEFAULT_EXTS,
    resolve: bool = True,
    minimal: bool = True,
    progress: bool = False,
    workers: int = 0,
) -> list[AudioMeta]:
    """The usable files of `scan_folder`, without its report; `minimal=False` is its `complete`."""
    return scan_folder(path, exts, not minimal, workers, progress, resolve).meta


def _walk(root: Path, report: ScanReport) -> Iterator[Path]:
    """Files under `root`. Links are followed, each real folder once, so that a link upwards does not go on forever.
    Folders that cannot be looked into are reported."""

    def closed(error: OSError) -> None:
        report.skipped.append((str(error.filename), f"the folder cannot be read ({error.strerror})"))

    seen: set[str] = set()
    for folder, subfolders, files in os.walk(root, onerror=closed, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        # In a fixed order, so that of two links to one folder the same wins everywhere.
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield from (Path(folder) / name for name in sorted(files) if not name.startswith("."))


def _inspect_all(
    found: list[str], report: ScanReport, complete: bool, workers: int, progress: bool, shortest: float
) -> None:
    from tqdm import tqdm

    with ThreadPoolExecutor(max(1, workers)) as pool:
        results = pool.map(lambda file: _inspect(file, complete, shortest), found)
        for file, result in zip(found, tqdm(results, "Reading files", len(found), unit="file", disable=not progress)):
            if isinstance(result, str):
                report.skipped.append((file, result))
                continue
            report.meta.append(result)
            if result.amplitude is not None and result.amplitude < SILENCE:
                report.silent.append(file)


def _inspect(file: str, complete: bool, shortest: float) -> AudioMeta | str:
    """A manifest's record, or the reason why there is none."""
    if _printable(file) != file:
        return "its name is not valid UTF-8; rename it"  # manifests and libraries cannot hold such a name
    try:
        info = audio_info(file)
        meta = AudioMeta(file, info.duration, info.sample_rate)
        if meta.duration >= shortest and (complete or _may_be_absurd(file)):
            peak, duration = _decode(file)
            # A header may promise more than a file that was cut off holds.
            meta.duration = duration if duration < meta.duration - MIN_DURATION else meta.duration
            meta.amplitude = peak if complete else None
        if not meta.duration:
            return "it holds no samples"
        if meta.duration < shortest:
            return f"{meta.duration:.3g} s is under {shortest} s"
        return meta
    except UnreadableAudio as error:
        return error.reason
    except OSError as error:
        return str(error.strerror or error)


def _decode(file: str) -> tuple[float, float]:
    """Largest absolute sample, and seconds; block by block, for long files. Raises where they are no sound."""
    blocks, rate = audio_blocks(file)
    peak, length = 0.0, 0
    for block in blocks:
        peak = max(peak, block.abs().max().item())
        length += block.shape[1]
    return peak, length / rate


def _may_be_absurd(file: str) -> bool:
    import soundfile

    try:
        return soundfile.info(file).subtype in _FLOAT_SUBTYPES
    except soundfile.LibsndfileError:
        return False  # PyAV's side: lossy codecs, whose decoders give finite samples


def _nothing(report: ScanReport) -> str:
    if not report.other:
        return f"the folder {report.folder} is empty"
    kinds = ", ".join(ext or "no ending" for ext, _ in report.other.most_common(5))
    return f"there is no audio in {report.folder}, only files with {kinds}"


def _printable(path: str) -> str:
    """The path with bytes that are no text (in Python they are lone surrogates) written out."""
    return path.encode("utf-8", "backslashreplace").decode()


def _shortened(lines: list[str]) -> list[str]:
    extra = len(lines) - _REPORT_LINES
    return lines if extra <= 0 else [*lines[:_REPORT_LINES], f"  … and {extra} more"]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
