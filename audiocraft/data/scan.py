"""Looking through a folder for audio, saying what was left out and why, and the command that makes a manifest of it."""

import os
import signal
import sys
import typing as tp
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UserError
from .audio import AudioFile, UnreadableAudio, audio_info, audio_read, check_samples, open_audio, reading, untold
from .manifest import AudioMeta, save_audio_meta

# Endings that audio has: a file with one of them that is none is worth telling. Others are looked into as well, and
# passed over where there is no audio.
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
# What lies beside audio by rule: notes and manifests.
_BESIDE = (".json", ".jsonl", ".gz")


@dataclass
class ScanReport:
    """What `scan_folder` found: usable files sorted by path, files left out with the reason, what is odd about files
    that are usable all the same, silent ones of these, and how many files there are without audio, by their ending."""

    folder: Path
    meta: list[AudioMeta] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    odd: list[tuple[str, str]] = field(default_factory=list)
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
        if self.odd:
            out.append(f"taken although odd, {_count(len({path for path, _ in self.odd}), 'file')}:")
            out += _shortened([f"  {_printable(path)}: {note}" for path, note in self.odd])
            for path, note in self.odd:
                untold(path, [note])  # what is said here need not be said again when the file is read
        if self.silent:
            out.append(f"kept although silent, {_count(len(self.silent), 'file')}:")
            out += _shortened([f"  {_printable(path)}" for path in self.silent])
        if self.other:
            kinds = ", ".join(f"{count} {ext or 'without ending'}" for ext, count in self.other.most_common(8))
            out.append(f"passed over, no audio: {kinds}")
        return out


def scan_folder(
    path: str | Path,
    exts: tp.Sequence[str] = DEFAULT_EXTS,
    complete: bool = False,
    workers: int = 0,
    progress: bool = False,
    resolve: bool = False,
    shortest: float = MIN_DURATION,
) -> ScanReport:
    """Find the audio files under a folder.

    Args:
        path: the folder; subfolders and linked folders are searched too, names that begin with a dot are not. A file
            that several names lead to (links) is taken once.
        exts: endings to look at, in any case of letters. By default all files are looked into, and those with the
            endings of audio must be some.
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
    found: dict[str, bool] = {}  # whether it must be audio
    for file in _once(_walk(root, report)):
        ending = file.suffix.lower()
        if ending in endings or (exts is DEFAULT_EXTS and ending not in _BESIDE):
            # Not Path.resolve: a link to itself makes it fail.
            found[os.path.realpath(file) if resolve else str(file)] = ending in endings
        elif ending not in _BESIDE:
            report.other[ending] += 1
    if not found and report.skipped:
        raise UserError(f"{': '.join(report.skipped[0])}; change its permissions or give another folder")
    _inspect_all(dict(sorted(found.items())), report, complete, workers, progress, shortest)
    if not report.meta and not report.skipped:
        raise UserError(
            f"{_nothing(report)}; put audio files there ({', '.join(DEFAULT_EXTS[:6])}, …) or give another folder"
        )
    if not report.meta:
        first, reason = report.skipped[0]
        count = len(report.skipped)
        which = "the only audio file" if count == 1 else f"none of the {count} audio files"
        verdict = "cannot" if count == 1 else "can"
        raise UserError(f"{which} in {root} {verdict} be used ({first}: {reason}); add others or give another folder")
    return report


def find_audio_files(
    path: str | Path,
    exts: tp.Sequence[str] = DEFAULT_EXTS,
    resolve: bool = True,
    minimal: bool = True,
    progress: bool = False,
    workers: int = 0,
) -> list[AudioMeta]:
    """The usable files of `scan_folder`, without its report; `minimal=False` is its `complete`."""
    return scan_folder(path, exts, not minimal, workers, progress, resolve).meta


def _get_audio_meta(file_path: str | Path, minimal: bool = True) -> AudioMeta:
    """One file's record in a manifest, with its largest sample unless `minimal`; the peer's tests make theirs so.

    Raises:
        UnreadableAudio: it cannot be read.
    """
    info = audio_info(file_path)
    amplitude = None if minimal else audio_read(file_path)[0].abs().max().item()
    return AudioMeta(str(file_path), info.duration, info.sample_rate, amplitude)


def _walk(root: Path, report: ScanReport) -> tp.Iterator[Path]:
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


def _once(files: tp.Iterator[Path]) -> tp.Iterator[Path]:
    """Of names that lead to one file, one: the file itself before links to it, then the first."""
    seen: dict[object, Path] = {}
    for file in files:
        try:
            state = file.stat()
            known = seen.setdefault((state.st_dev, state.st_ino), file)
            if known.is_symlink() and not file.is_symlink():
                seen[state.st_dev, state.st_ino] = file
        except OSError:
            seen[file] = file  # a link to nowhere, for the report
    yield from seen.values()


def _inspect_all(
    found: dict[str, bool], report: ScanReport, complete: bool, workers: int, progress: bool, shortest: float
) -> None:
    from tqdm import tqdm

    with ThreadPoolExecutor(max(1, workers)) as pool:
        results = pool.map(lambda file: _inspect(file, complete, shortest), found)
        for file, result in zip(found, tqdm(results, "Reading files", len(found), unit="file", disable=not progress)):
            if isinstance(result, str):
                # Of files that nobody called audio only those that are some without doubt are worth a word.
                if found[file] or result.startswith("no decoder"):
                    report.skipped.append((file, result))
                else:
                    report.other[Path(file).suffix.lower()] += 1
                continue
            meta, notes = result
            report.meta.append(meta)
            report.odd += [(file, note) for note in notes]
            if meta.amplitude is not None and meta.amplitude < SILENCE:
                report.silent.append(file)


def _inspect(name: str, complete: bool, shortest: float) -> tuple[AudioMeta, list[str]] | str:
    """A manifest's record and what is odd, or the reason why there is none."""
    if name.encode("utf-8", "backslashreplace").decode() != name:
        return "its name is not valid UTF-8; rename it"  # manifests and libraries cannot hold such a name
    try:
        with reading(name):
            file = open_audio(name)
            if not file.frames:
                return "it holds no samples"
            if file.duration < shortest:
                return f"{file.duration:.3g} s is under {shortest} s"
            # Floating point can hold NaN and absurd peaks, so that a look at the header is not enough.
            peak = _peak(file) if complete or file.floating else None
            return AudioMeta(name, file.duration, file.rate, peak if complete else None), file.notes()
    except UnreadableAudio as error:
        return error.reason


def _peak(file: AudioFile) -> float:
    """Largest absolute sample; block by block, for long files. Raises ValueError where they are no sound."""
    peak = 0.0
    for block in file.parts(0, file.frames):
        check_samples(block)
        peak = max(peak, block.abs().max().item())
    return peak


def _nothing(report: ScanReport) -> str:
    if not report.other:
        return f"the folder {report.folder} is empty"
    kinds = ", ".join(ext or "no ending" for ext, _ in report.other.most_common(5))
    return f"there is no audio in {report.folder}, only files with {kinds}"


def _printable(path: str) -> str:
    """The path on one line, with bytes that are no text (in Python they are lone surrogates) written out."""
    return path.encode("utf-8", "backslashreplace").decode().replace("\n", "\\n").replace("\r", "\\r")


def _shortened(lines: list[str]) -> list[str]:
    extra = len(lines) - _REPORT_LINES
    return lines if extra <= 0 else [*lines[:_REPORT_LINES], f"  … and {extra} more"]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def main(argv: tp.Sequence[str] | None = None) -> int:
    """Make a manifest of a folder and say what was left out. Returns the exit status."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="python -m audiocraft.data.audio_dataset", description="Make a manifest of a folder."
    )
    parser.add_argument("root", help="folder with audio files, searched with its subfolders")
    parser.add_argument("output_meta_file", help="manifest to write, such as egs/NAME/data.jsonl or data.jsonl.gz")
    parser.add_argument("--complete", action="store_true", help="decode every file: fill in its peak, report silence")
    parser.add_argument("--resolve", action="store_true", help="write absolute paths")
    parser.add_argument("--workers", type=int, default=8, help="files read at once (default: 8)")
    args = parser.parse_args(argv)
    try:
        if not args.output_meta_file.endswith((".jsonl", ".jsonl.gz")):
            raise UserError(f"{args.output_meta_file} is no name for a manifest; let it end in .jsonl or .jsonl.gz")
        report = scan_folder(
            args.root, complete=args.complete, workers=args.workers, progress=True, resolve=args.resolve
        )
        save_audio_meta(args.output_meta_file, report.meta)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; no manifest was written", file=sys.stderr)
        return 128 + signal.SIGINT
    print("\n".join([*report.lines(), f"written to {args.output_meta_file}"]))
    return 0
