"""A report on novelty as text, and as one HTML page that holds its sounds and pictures: it opens from disk, alone."""

import base64
import html
import io
import typing as tp
from pathlib import Path

import numpy as np
import torch

from ..utils.files import write_text
from ..utils.tables import cell, text_table
from .novelty import HELD_OUT, TAKES, Case, NoveltyReport
from .sound_features import RATE
from .sound_figure import RANGE_DB, log_spectrogram

CASES = 8  # that the page plays
CONTEXT_SECONDS = 1.0  # heard before and after the second that is alike
_COLOURS = {TAKES: "#f2a65a", HELD_OUT: "#7ee0c3"}
_KINDS = {"codes": "equal codes, share", "sound": "likeness of sound"}
_WIDTH, _HEIGHT = 640, 200  # of the histogram


class Pair(tp.NamedTuple):
    """A case to listen to: names and waves [1, T] at 32 kHz of the take's stretch and of the material's."""

    case: Case
    take: str
    source: str
    take_wav: torch.Tensor
    source_wav: torch.Tensor


def table(report: NoveltyReport) -> str:
    """Shares of copied windows, groups side by side."""
    return text_table(["", *report.groups], [[title, *cells] for title, cells in _rows(report)], least=10)


def _rows(report: NoveltyReport) -> list[tuple[str, list[str]]]:
    """Titles, and a cell for each group."""
    rows = [
        ("copied, share of seconds", [cell(report.copied(name), 3) for name in report.groups]),
        ("longest copied stretch, s", [f"{report.longest(name):.1f}" for name in report.groups]),
        ("likeness of sound, median", [cell(report.median(name), 3) for name in report.groups]),
    ]
    for kind, title in _KINDS.items():
        shares = {name: report.shares(name, kind) for name in report.groups}
        if kind == "codes" and all(value is None for levels in shares.values() for value in levels.values()):
            continue
        for level in shares[TAKES]:
            rows.append((f"{title} {level:.2f} or more", [cell(levels[level], 3) for levels in shares.values()]))
    return rows


def told(case: Case, take: str, source: str) -> str:
    """A case in a line: where, how long, from where, how like."""
    how = f"likeness {case.likeness:.2f}"
    how += f", {100 * case.agreement:.0f} % of the codes" if case.agreement is not None else ""
    length = f"{case.copied:.1f} s copied, " if case.copied else ""
    return f"{take} at {case.start:.1f} s: {length}closest to {source} at {case.at:.1f} s ({how})"


def write_page(report: NoveltyReport, pairs: tp.Sequence[Pair], title: str, facts: str, path: Path) -> None:
    """Write the page.

    Args:
        pairs: of `report.worst`.
        title: what was measured.
        facts: how much of what, in a line.
        path: the file.
    Raises:
        UserError: it cannot be written.
    """
    copied = report.copied(TAKES)
    verdict = "Nothing can be heard." if copied is None else f"{100 * copied:.1f} % of the seconds are copied."
    cells = "\n".join(
        f"<tr><th>{html.escape(name)}</th>" + "".join(f"<td>{value}</td>" for value in values) + "</tr>"
        for name, values in _rows(report)
    )
    heads = "".join(f"<th>{html.escape(name)}</th>" for name in report.groups)
    notes = "".join(f"<p class=note>{html.escape(note)}</p>" for note in report.notes)
    body = f"""<h1>{html.escape(title)}</h1><p class=verdict>{verdict}</p><p>{html.escape(facts)}</p>{notes}
<table><tr><td></td>{heads}</tr>
{cells}</table>
<h2>How like the closest second is</h2>{_histogram(report)}
<h2>The closest seconds</h2><p>The second that is most alike, with a second before and after; left the take, right the
training material. What is copied comes first, the longest before the rest.</p>
{"".join(map(_pair, pairs))}"""
    write_text(path, _PAGE.replace("{title}", html.escape(title)).replace("{body}", body))


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><title>{title}</title><style>
body { background: #11161b; color: #c8d3dc; font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem }
h1, h2 { font-weight: 600 } .verdict { font-size: 1.4rem } .note { color: #f2a65a }
table { border-collapse: collapse } th { text-align: left; font-weight: 400 } td { text-align: right }
th, td { padding: .1rem 1rem .1rem 0; font-variant-numeric: tabular-nums }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .3rem 1rem; margin: 1.5rem 0 }
.pair p { grid-column: 1 / 3; margin: 0 } figure { margin: 0; min-width: 0; overflow-wrap: anywhere }
img, audio, svg { width: 100%; display: block }
img { height: 8rem; image-rendering: pixelated } text { fill: #c8d3dc; font-size: 12px }
</style></head><body>{body}</body></html>
"""


def _pair(pair: Pair) -> str:
    case = pair.case
    text = f"likeness {case.likeness:.2f}"
    text += f", {100 * case.agreement:.0f} % of the codes equal" if case.agreement is not None else ""
    text = (f"copied for {case.copied:.1f} s; " if case.copied else "") + text
    sides = (
        _player(f"{pair.take}, {case.start:.2f} s", pair.take_wav),
        _player(f"{pair.source}, {case.at:.2f} s", pair.source_wav),
    )
    return f'<div class="pair"><p>{html.escape(text)}</p>{"".join(sides)}</div>'


def _player(label: str, wav: torch.Tensor) -> str:
    import soundfile

    sound = io.BytesIO()
    soundfile.write(sound, wav[0].clamp(-1, 1).numpy(), RATE, format="WAV", subtype="PCM_16")
    picture, audio = (base64.b64encode(data).decode() for data in (_picture(wav), sound.getvalue()))
    label = html.escape(label, quote=True)
    return (
        f'<figure><figcaption>{label}</figcaption><img alt="Spectrogram of {label}" '
        f'src="data:image/png;base64,{picture}"><audio controls src="data:audio/wav;base64,{audio}"></audio></figure>'
    )


def _picture(wav: torch.Tensor) -> bytes:
    """A spectrogram as PNG, low frequencies at the bottom."""
    from matplotlib import colormaps
    from PIL import Image

    levels = log_spectrogram(wav)[::-1].clip(-RANGE_DB, 0)
    out = io.BytesIO()
    Image.fromarray(colormaps["magma"](1 + levels / RANGE_DB, bytes=True)[..., :3]).quantize(96).save(out, "PNG")
    return out.getvalue()


def _histogram(report: NoveltyReport) -> str:
    """Shares of windows by likeness, a line for each group, and where copies begin, as SVG."""
    shares = {name: np.array(report.histogram(name)) for name in report.groups}
    top = max(1e-6, *(values.max() for values in shares.values()))
    parts = []
    for number, (name, values) in enumerate(shares.items()):
        edges = np.linspace(0, _WIDTH, len(values) + 1)
        heights = _HEIGHT * (1 - values / top)
        steps = " ".join(f"{left:.0f},{y:.1f} {right:.0f},{y:.1f}" for left, right, y in zip(edges, edges[1:], heights))
        colour, y = _COLOURS[name], 16 + 18 * number
        parts.append(f'<polyline points="{steps}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="8" y="{y}" style="fill:{colour}">{html.escape(name)}</text>')
    x = _WIDTH * report.from_likeness
    parts.append(f'<line x1="{x:.0f}" x2="{x:.0f}" y1="0" y2="{_HEIGHT}" stroke="#c8d3dc" stroke-dasharray="4 4"/>')
    parts.append(f'<text x="{x + 6:.0f}" y="16">copied from {report.from_likeness:.2f} on</text>')
    parts += [
        f'<text x="{_WIDTH * value:.0f}" y="{_HEIGHT + 16}" text-anchor="middle">{value:.1f}</text>'
        for value in np.arange(0, 1.01, 0.2)
    ]
    label = "Share of seconds by likeness of the closest second of the training material"
    return f'<svg viewBox="-10 -4 {_WIDTH + 30} {_HEIGHT + 28}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
