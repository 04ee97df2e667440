"""Pictures of what a GPU was found to do: its checks, and how near its steps come to their floors."""

import textwrap
import typing as tp
from dataclasses import dataclass
from pathlib import Path

from .figure import FAINT, INK, finish, plain
from .record import Record

_GOOD, _BAD, _LEFT_OUT = "#2f8f5b", "#c0392b", "#b8b8b8"
_ROW_HEIGHT = 0.42


@dataclass
class Check:
    """One line of `check_gpu.py`: whether it passed (None: left out), what it found, seconds, and what a failure means
    in plain words."""

    title: str
    good: bool | None
    told: str
    seconds: float
    means: str = ""

    @property
    def word(self) -> str:
        """For a table."""
        return {True: "ok", False: "FAIL", None: "skip"}[self.good]


def draw_checks(checks: tp.Sequence[Check], device: str, out: Path) -> None:
    """A line for each check, with what it found."""
    from matplotlib.figure import Figure

    height = 1.2 + _ROW_HEIGHT * max(1, len(checks))
    figure = Figure(figsize=(12.5, height), facecolor="white")
    _check_lines(figure.subplots(), checks)
    means = [f"{check.title}: {check.means}" for check in checks if check.means]
    finish(
        figure, f"{device}: checks", means or ["Nothing is wrong."], 0.2, {"left": 0.14, "top": 1 - 0.5 / height}, out
    )


def draw(records: tp.Sequence[Record], device: str, wrong: tp.Sequence[str], out: Path) -> None:
    """Checks, steps of the decoder against their floor and training steps, from the records of one session."""
    from matplotlib.figure import Figure

    checks = [Check(**each) for record in records if record["what"] == "checks" for each in record["checks"]]
    steps, training = ([record for record in records if record["what"] == what] for what in ("step", "train"))
    speed: dict[str, float] = next((record["speed"] for record in records if record["what"] == "machine"), {})
    counts = [max(1, len(part)) for part in (checks, steps, training)]
    height = 3.2 + _ROW_HEIGHT * sum(counts)
    figure = Figure(figsize=(12.5, height), facecolor="white")
    axes = figure.subplots(3, 1, height_ratios=counts)
    _check_lines(axes[0], checks)
    names = [f"{r['model']}, {r['batch']} × {r['precision']}, {r['way']}" for r in steps]
    _bars(axes[1], "One step of the token decoder (line: its weights through the memory)", names, steps, "ms")
    if "GB/s" in speed:
        for row, record in enumerate(steps):
            floor = 1e3 * record["bytes"] / (speed["GB/s"] * 1e9)
            axes[1].plot([floor, floor], [row - 0.35, row + 0.35], color="black", linewidth=2)
    names = [f"{r['model']}, {r['batch']} × {r['seconds']:g} s, {r['precision']}" for r in training]
    _bars(axes[2], "One training step", names, training, "ms")
    edges = {"left": 0.22, "top": 1 - 0.75 / height, "hspace": 0.6}
    finish(figure, device, wrong or ["Nothing is wrong."], 0.5, edges, out)


def _check_lines(axes: tp.Any, checks: tp.Sequence[Check]) -> None:
    plain(axes, "", pad=4)
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks(range(len(checks)), [check.title for check in checks], fontsize=9)
    axes.set_ylim(len(checks) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    for row, check in enumerate(checks):
        colour = {True: _GOOD, False: _BAD, None: _LEFT_OUT}[check.good]
        axes.text(0, row, check.word, color=colour, fontsize=9, fontweight="bold", va="center")
        told = textwrap.shorten(check.told, 125, placeholder=" …")
        axes.text(0.05, row, f"{told} ({check.seconds:g} s)", color=INK, fontsize=8.5, va="center")


def _bars(axes: tp.Any, title: str, names: tp.Sequence[str], records: tp.Sequence[Record], unit: str) -> None:
    plain(axes, title, pad=6)
    values = [1e3 * record["step_s"] for record in records]
    axes.barh(range(len(values)), values, 0.62, color="#2f6db5")
    axes.set_yticks(range(len(names)), names, fontsize=8.5)
    axes.set_ylim(max(1, len(names)) - 0.4, -0.6)
    for row, value in enumerate(values):
        axes.text(value, row, f" {value:.3g} {unit}", va="center", fontsize=8.5, color=INK)
    if not values:
        axes.text(0, 0, "not measured", color=FAINT, fontsize=9, va="center")
        axes.set_xticks([])
    axes.set_xlabel(unit, fontsize=8, color=FAINT, loc="left", labelpad=1)
