"""An evaluation as text."""

from collections.abc import Sequence
from pathlib import Path

from .codec_eval import DISTANCES, Evaluation, Score

# So many frames per entry show an entropy to within a few hundredths of a bit; fewer show too little of it.
_FRAMES_PER_ENTRY = 8
_LEGEND = (
    "log-mel, < 4 kHz: dB, lower is better; STFT: lower is better; SI-SDR: dB, higher is better.",
    "kb/s: entropy of the codes over all files (in brackets: sent plainly); of one file alone it comes out lower. "
    "Opus: its packets.",
    "encode, decode: × real time, median over files.",
)
_HEADS, _DIGITS = ("log-mel", "< 4 kHz", "STFT", "SI-SDR"), (2, 2, 3, 2)


def table(evaluation: Evaluation, threads: int, device: str) -> str:
    """The first codec file by file with the means last, one row per codec and reference, and the codebooks."""
    first, codecs = evaluation.scores[0], [score for score in evaluation.scores if score.codebooks]
    minutes, seconds = divmod(round(evaluation.seconds), 60)
    names = _short_names([file.file for file in first.files])
    head = (
        f"{len(first.files)} file{'s' * (len(first.files) != 1)}, {minutes}:{seconds:02d} min, compared at "
        f"{evaluation.sample_rate / 1000:g} kHz, {evaluation.channels} channel{'s' * (evaluation.channels != 1)}; "
        f"on {device}, {threads} thread{'s' * (threads != 1)}"
    )
    sections = [head, "\n".join([*_file_rows(first, names), "", *_score_rows(evaluation.scores), *_LEGEND])]
    sections += ["\n".join(_codebook_rows([score for score in codecs if score.kind == "codec"]))]
    if evaluation.skipped:
        sections.append("\n".join(["skipped:", *(f"  {path}: {reason}" for path, reason in evaluation.skipped)]))
    return "\n\n".join(sections)


def _short_names(paths: Sequence[str]) -> list[str]:
    """File names, with as much of their folders as tells them apart."""
    names = [Path(path).name for path in paths]
    return [path if names.count(name) > 1 else name for name, path in zip(names, paths)]


def _file_rows(score: Score, names: Sequence[str]) -> list[str]:
    width = max(len(score.name), *(len(name) for name in names), 4)
    lines = [f"{score.name:{width}}  {'seconds':>8}" + "".join(f" {head:>8}" for head in _HEADS) + f" {'kb/s':>8}"]
    for name, file in zip(names, score.files):
        values = [getattr(file, key) for key in DISTANCES]
        lines.append(f"{name:{width}}  {file.seconds:8.1f}{_cells(values)} {_kbps(file.bits_per_second):>8}")
    total = sum(file.seconds for file in score.files) / len(score.files)
    means = _cells([score.mean(key) for key in DISTANCES])
    lines.append(f"{'mean':{width}}  {total:8.1f}{means} {_kbps(score.mean('bits_per_second')):>8}")
    return lines


def _score_rows(scores: Sequence[Score]) -> list[str]:
    width = max(len(score.name) for score in scores)
    heads = "".join(f" {head:>8}" for head in _HEADS)
    lines = [f"{'means over files':{width}} {heads} {'kb/s':>13} {'encode':>8} {'decode':>8}"]
    for score in scores:
        rate = _kbps(score.bits_per_second)
        if score.nominal_bits_per_second is not None:
            rate += f" ({_kbps(score.nominal_bits_per_second)})"
        speeds = "".join(f" {_speed(score.speed(way)):>8}" for way in ("encode", "decode"))
        lines.append(f"{score.name:{width}} {_cells([score.mean(key) for key in DISTANCES])} {rate:>13}{speeds}")
    return lines


def _codebook_rows(scores: Sequence[Score]) -> list[str]:
    width = max(len(score.name) for score in scores)
    lines = [f"{'codebooks':{width}}  {'no.':>3} {'entries hit':>20} {'perplexity':>10} {'bits':>5} {'top entry':>9}"]
    for score in scores:
        for number, one in enumerate(score.codebooks, start=1):
            hit = f"{one.used} of {one.bins} ({100 * one.used / one.bins:.0f} %)"
            lines.append(
                f"{score.name:{width}}  {number:3} {hit:>20} {one.perplexity:10.0f} {one.bits:5.2f} "
                f"{100 * one.top_share:7.1f} %"
            )
        bins = score.codebooks[0].bins
        if score.frames < _FRAMES_PER_ENTRY * bins:
            lines.append(
                f"{score.name}: {score.frames} frames are few for {bins} entries, so entries hit, perplexity and bits "
                "come out too low; measure more audio"
            )
    return lines


def _cells(values: Sequence[float | None]) -> str:
    return "".join(f" {'–' if value is None else f'{value:.{digits}f}':>8}" for value, digits in zip(values, _DIGITS))


def _kbps(bits_per_second: float | None) -> str:
    return "–" if bits_per_second is None else f"{bits_per_second / 1000:.2f}"


def _speed(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
