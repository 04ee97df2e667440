"""An evaluation as text."""

from collections.abc import Sequence
from pathlib import Path

from .codec_eval import Evaluation, FileScore, Score

# So many frames per entry show an entropy to within a few hundredths of a bit; fewer show too little of it.
_FRAMES_PER_ENTRY = 8
_LEGEND = (
    "log-mel, < 4 kHz: dB, lower is better. pitch: share of tones that stay within 50 cents; onsets: correlation of "
    "attacks; up to 1, higher is better.",
    "hum: dB that the multiples of so many Hz (the codecs' own rates) gain on what lies between; 0 is best.",
    "STFT: lower is better; SI-SDR: dB, higher is better.",
    "kb/s: entropy of the codes over all files (in brackets: sent plainly); of one file alone it comes out lower. "
    "Opus: its packets.",
    "encode, decode: × real time, median over files.",
)
_HEADS = {"log_mel_db": "log-mel", "log_mel_below_4khz_db": "< 4 kHz", "pitch_kept": "pitch", "onsets": "onsets"}
_LAST_HEADS = {"stft": "STFT", "si_sdr_db": "SI-SDR"}


def table(evaluation: Evaluation, threads: int, device: str) -> str:
    """The first codec file by file with the means last, one row per codec and reference, and the codebooks."""
    first, codecs = evaluation.scores[0], [score for score in evaluation.scores if score.codebooks]
    rates = evaluation.hum_rates
    minutes, seconds = divmod(round(evaluation.seconds), 60)
    names = _short_names([file.file for file in first.files])
    head = (
        f"{len(first.files)} file{'s' * (len(first.files) != 1)}, {minutes}:{seconds:02d} min, compared at "
        f"{evaluation.sample_rate / 1000:g} kHz, {evaluation.channels} channel{'s' * (evaluation.channels != 1)}; "
        f"on {device}, {threads} thread{'s' * (threads != 1)}"
    )
    sections = [
        head,
        "\n".join([*_file_rows(first, names, rates), "", *_score_rows(evaluation.scores, rates), *_LEGEND]),
    ]
    sections += ["\n".join(_codebook_rows([score for score in codecs if score.kind == "codec"]))]
    if evaluation.skipped:
        sections.append("\n".join(["skipped:", *(f"  {path}: {reason}" for path, reason in evaluation.skipped)]))
    return "\n\n".join(sections)


def _short_names(paths: Sequence[str]) -> list[str]:
    """File names, with as much of their folders as tells them apart."""
    names = [Path(path).name for path in paths]
    return [path if names.count(name) > 1 else name for name, path in zip(names, paths)]


def _file_rows(score: Score, names: Sequence[str], rates: Sequence[int]) -> list[str]:
    width = max(len(score.name), *(len(name) for name in names), 4)
    lines = [f"{score.name:{width}}  {'seconds':>8}{_heads(rates)} {'kb/s':>8}"]
    for name, file in zip(names, score.files):
        lines.append(f"{name:{width}}  {file.seconds:8.1f}{_cells(file, rates)} {_kbps(file.bits_per_second):>8}")
    total = sum(file.seconds for file in score.files) / len(score.files)
    lines.append(f"{'mean':{width}}  {total:8.1f}{_cells(score, rates)} {_kbps(score.mean('bits_per_second')):>8}")
    return lines


def _score_rows(scores: Sequence[Score], rates: Sequence[int]) -> list[str]:
    width = max(len(score.name) for score in scores)
    lines = [f"{'means over files':{width}} {_heads(rates)} {'kb/s':>13} {'encode':>8} {'decode':>8}"]
    for score in scores:
        rate = _kbps(score.bits_per_second)
        if score.nominal_bits_per_second is not None:
            rate += f" ({_kbps(score.nominal_bits_per_second)})"
        speeds = "".join(f" {_speed(score.speed(way)):>8}" for way in ("encode", "decode"))
        lines.append(f"{score.name:{width}} {_cells(score, rates)} {rate:>13}{speeds}")
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


def _heads(rates: Sequence[int]) -> str:
    return "".join(
        f" {head:>8}" for head in (*_HEADS.values(), *(f"hum {rate}" for rate in rates), *_LAST_HEADS.values())
    )


def _cells(score: Score | FileScore, rates: Sequence[int]) -> str:
    """A file's measures, or the means over files."""
    of = score.mean if isinstance(score, Score) else lambda key: getattr(score, key)
    hums = score.hums() if isinstance(score, Score) else score.hum_db
    values = [*map(of, _HEADS), *map(hums.get, rates), *map(of, _LAST_HEADS)]
    digits = [2] * len(_HEADS) + [1] * len(rates) + [3, 2]
    return "".join(f" {'–' if value is None else f'{value:.{d}f}':>8}" for value, d in zip(values, digits))


def _kbps(bits_per_second: float | None) -> str:
    return "–" if bits_per_second is None else f"{bits_per_second / 1000:.2f}"


def _speed(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
