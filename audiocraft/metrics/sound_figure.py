"""A picture of a report on sound: takes to look at, and where each measure lies beside the material."""

import typing as tp
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from ..utils.figures import save_png
from .hearing import magnitudes
from .sound import MEASURES, SoundReport
from .sound_features import RATE
from .sound_table import COMPARED

if tp.TYPE_CHECKING:
    from matplotlib.axes import Axes

Strips = tp.Mapping[str, tp.Sequence[tuple[str, torch.Tensor]]]

STRIPS = 3
RANGE_DB = 70.0
_COLOURS = ("#c8452d", "#3b6ea5", "#7a9a3a", "#8a6fb0")
_COLUMNS = 5
_LOWEST = 40.0
_ROWS, _POINTS = 96, 800  # of a strip


def draw(report: SoundReport, strips: Strips, out: str | Path) -> None:
    """Write the figure as PNG: spectrograms of some of each group above, measures and comparisons below.

    Args:
        strips: by groups, names and waves [1, T] at 32 kHz; the first three are drawn.
    Raises:
        UserError: `out` cannot be written.
    """
    from matplotlib.figure import Figure

    shown = {name: list(waves)[:STRIPS] for name, waves in strips.items() if waves}
    compared = _compared(report)
    rows = -(-(len(MEASURES) + len(compared)) // _COLUMNS)
    heights = [0.5 + 1.25 * STRIPS, 2.1 * rows]
    figure = Figure(figsize=(14, sum(heights)), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=heights)  # type: ignore[misc]
    for part, (name, waves) in zip(np.atleast_1d(above.subfigures(1, len(shown))), shown.items()):
        part.suptitle(name, fontsize=12, color=_colours(report)[name], weight="bold")
        for axis, (label, wav) in zip(np.atleast_1d(part.subplots(STRIPS, 1)), waves):
            _draw_strip(axis, label, wav)
        for axis in part.axes[len(waves) :]:
            axis.set_visible(False)
    cells = list(below.subplots(rows, _COLUMNS, squeeze=False).flat)
    for axis, (key, measure) in zip(cells, MEASURES.items()):
        values = {
            name: [value for sound in group.sounds if (value := sound.values[key]) is not None]
            for name, group in report.groups.items()
        }
        _draw_points(axis, measure.title, values, _colours(report))
    for axis, (title, bars) in zip(cells[len(MEASURES) :], compared.items()):
        _draw_bars(axis, title, bars, _colours(report))
    for axis in cells[len(MEASURES) + len(compared) :]:
        axis.set_visible(False)
    save_png(figure, out)


def _colours(report: SoundReport) -> dict[str, str]:
    return {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(report.groups)}


def _compared(report: SoundReport) -> dict[str, dict[str, float]]:
    """Bars by titles and groups, of what there is."""
    found = {
        title: {name: value for name, group in report.groups.items() if (value := of(group)) is not None}
        for title, (_, of) in COMPARED.items()
    }
    return {title: bars for title, bars in found.items() if bars}


def log_spectrogram(wav: torch.Tensor) -> np.ndarray:
    """dB [rows, frames] of wav [1, T] on rows from 40 Hz to 16 kHz, equal steps of pitch; 0 is its loudest point."""
    size = 4096
    spectrum = magnitudes(wav, size, max(1, wav.shape[1] // _POINTS)).square().numpy()
    edges = np.geomspace(_LOWEST, RATE / 2, _ROWS + 1) * size / RATE
    rows = []
    for low, high in pairwise(edges):
        first = min(int(low), len(spectrum) - 1)
        rows.append(spectrum[first : max(first + 1, int(high))].max(0))
    power = 10 * np.log10(np.stack(rows) + 1e-9)
    return power - power.max()


def _draw_strip(axis: "Axes", label: str, wav: torch.Tensor) -> None:
    axis.imshow(
        log_spectrogram(wav),
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=-RANGE_DB,
        vmax=0,
        extent=(0, wav.shape[1] / RATE, 0, _ROWS),
        interpolation="nearest",
    )
    octaves = np.log2(RATE / 2 / _LOWEST)
    ticks = {"100": 100, "1k": 1000, "10k": 10000}
    axis.set_yticks([_ROWS * np.log2(hz / _LOWEST) / octaves for hz in ticks.values()], list(ticks), fontsize=7)
    axis.tick_params(axis="x", labelsize=7)
    axis.set_title(label, fontsize=8, loc="left", pad=2)


def _draw_points(axis: "Axes", title: str, values: dict[str, list[float]], colours: dict[str, str]) -> None:
    """A row of points per group, spread by where they crowd, with the median as a line."""
    for place, (name, points) in enumerate(values.items()):
        if not points:
            continue
        order = np.argsort(points, kind="stable")
        heights = np.zeros(len(points))
        heights[order] = ((np.arange(len(points)) * 0.618) % 1 - 0.5) * 0.6  # golden ratio: neighbours lie apart
        axis.scatter(points, place + heights, s=16, color=colours[name], alpha=0.6, linewidths=0)
        axis.vlines(np.median(points), place - 0.42, place + 0.42, color="black", linewidth=2)
    _name_rows(axis, title, list(values), colours)


def _draw_bars(axis: "Axes", title: str, bars: dict[str, float], colours: dict[str, str]) -> None:
    for place, (name, value) in enumerate(bars.items()):
        axis.barh(place, value, height=0.6, color=colours[name], alpha=0.85)
        axis.annotate(
            f"{value:.3g}", (value, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8
        )
    axis.set_xlim(0, 1.25 * max(*bars.values(), 1e-3))
    _name_rows(axis, title, list(bars), colours)


def _name_rows(axis: "Axes", title: str, names: list[str], colours: dict[str, str]) -> None:
    axis.set_title(title, fontsize=9)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    for label, name in zip(axis.get_yticklabels(), names):
        label.set_color(colours[name])
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.tick_params(axis="x", labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="x", alpha=0.25)
