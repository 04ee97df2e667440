"""An evaluation as text."""

from collections.abc import Sequence
from pathlib import Path

from ..utils.tables import cell, text_table
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
        f"{_file_table(first, names, rates)}\n\n{_score_table(evaluation.scores, rates)}\n" + "\n".join(_LEGEND),
        _codebook_table([score for score in codecs if score.kind == "codec"]),
    ]
    if evaluation.skipped:
        sections.append("\n".join(["skipped:", *(f"  {path}: {reason}" for path, reason in evaluation.skipped)]))
    return "\n\n".join(sections)


def _short_names(paths: Sequence[str]) -> list[str]:
    """File names, with as much of their folders as tells them apart."""
    names = [Path(path).name for path in paths]
    return [path if names.count(name) > 1 else name for name, path in zip(names, paths)]


def _file_table(score: Score, names: Sequence[str], rates: Sequence[int]) -> str:
    rows = [
        [name, cell(file.seconds, 1), *_cells(file, rates), _kbps(file.bits_per_second)]
        for name, file in zip(names, score.files)
    ]
    seconds = sum(file.seconds for file in score.files) / len(score.files)
    rows.append(["mean", cell(seconds, 1), *_cells(score, rates), _kbps(score.mean("bits_per_second"))])
    return text_table([score.name, "seconds", *_heads(rates), "kb/s"], rows, least=8, gap=1)


def _score_table(scores: Sequence[Score], rates: Sequence[int]) -> str:
    rows = []
    for score in scores:
        rate = _kbps(score.bits_per_second)
        if score.nominal_bits_per_second is not None:
            rate += f" ({_kbps(score.nominal_bits_per_second)})"
        rows.append([score.name, *_cells(score, rates), rate, *(cell(score.speed(w), 1) for w in ("encode", "decode"))])
    return text_table(["means over files", *_heads(rates), "kb/s", "encode", "decode"], rows, least=8, gap=1)


def _codebook_table(scores: Sequence[Score]) -> str:
    rows = []
    for score in scores:
        for no, one in enumerate(score.codebooks, start=1):
            hit = f"{one.used} of {one.bins} ({100 * one.used / one.bins:.0f} %)"
            bits = [cell(one.perplexity, 0), cell(one.bits), f"{100 * one.top_share:.1f} %"]
            rows.append([score.name, str(no), hit, *bits])
    few = [
        f"{score.name}: {score.frames} frames are few for {bins} entries, so entries hit, perplexity and bits come out "
        "too low; measure more audio"
        for score in scores
        if score.frames < _FRAMES_PER_ENTRY * (bins := score.codebooks[0].bins)
    ]
    heads = ["codebooks", "no.", "entries hit", "perplexity", "bits", "top entry"]
    return "\n".join([text_table(heads, rows), *few])


def _heads(rates: Sequence[int]) -> list[str]:
    return [*_HEADS.values(), *(f"hum {rate}" for rate in rates), *_LAST_HEADS.values()]


def _cells(score: Score | FileScore, rates: Sequence[int]) -> list[str]:
    """A file's measures, or the means over files."""
    of = score.mean if isinstance(score, Score) else lambda key: getattr(score, key)
    hums = score.hums() if isinstance(score, Score) else score.hum_db
    values = [*map(of, _HEADS), *map(hums.get, rates), *map(of, _LAST_HEADS)]
    return list(map(cell, values, [2] * len(_HEADS) + [1] * len(rates) + [3, 2]))


def _kbps(bits_per_second: float | None) -> str:
    return cell(bits_per_second and bits_per_second / 1000)
