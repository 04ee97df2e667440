"""The picture of `bench.py play`: phases stacked, models side by side, floors, and the peer as it was recorded."""

import textwrap
import typing as tp
from pathlib import Path

from audiocraft.utils.figures import save_png

from .summary import PHASES, Row, Summary

if tp.TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"imports": "#b8b8b8", "load": "#7f8fa6", "lm": "#2f6db5", "decode": "#e08e2b", "write": "#4d4d4d"}
PHASE_NAMES = {
    "imports": "start and imports",
    "load": "load weights",
    "lm": "language model",
    "decode": "codec decode",
    "write": "write files",
}
INK, FAINT, GUIDE = "#222222", "#777777", "#d5d5d5"
_BAR = 0.62
_WIDTH, _ROW_HEIGHT = 12.5, 0.46
_BYTES_PER_MIB = 2**20


def draw(summary: Summary, peers: tp.Sequence[Row], out: Path) -> None:
    """Write the figure as PNG: a column per model, a line of panels per number of clips."""
    from matplotlib.figure import Figure

    models, batches = summary.models, summary.batches
    rows = {
        (model, batch): [row for row in [*peers, *summary.rows] if (row.model, row.batch) == (model, batch)]
        for model in models
        for batch in batches
    }
    heights = [max(1, *(len(rows[model, batch]) for model in models)) + 0.9 for batch in batches]
    height = _ROW_HEIGHT * sum(heights) + 1.6 + 0.7 * len(batches)
    figure = Figure(figsize=(_WIDTH, height), facecolor="white")
    axes = figure.subplots(len(batches), len(models), squeeze=False, height_ratios=heights)
    for line, batch in enumerate(batches):
        for column, model in enumerate(models):
            places = max(len(rows[other, batch]) for other in models)
            _panel(axes[line][column], model, batch, rows[model, batch], places)
    _legend(figure, height)
    title = "From a shell prompt to sound: seconds, phase by phase"
    edges = {"left": 0.125, "top": 1 - 1.05 / height, "wspace": 0.36, "hspace": 0.42}
    finish(figure, title, caption(summary, bool(peers)), 0.6, edges, out)


def plain(axes: "Axes", title: str, pad: float = 16) -> None:
    """A panel with its title and a scale below, and no other lines."""
    axes.set_title(title, loc="left", fontsize=10.5, color=INK, fontweight="bold", pad=pad)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8, colors=FAINT, which="both")


def finish(
    figure: "Figure", title: str, paragraphs: tp.Sequence[str], foot: float, edges: dict[str, float], out: Path
) -> None:
    """Title, small print at the foot, margins; then write the figure.

    Args:
        foot: inches of the panels above the small print.
        edges: where the panels end and how far they are apart, as `subplots_adjust` takes it.
    """
    height = figure.get_figheight()
    figure.text(0.012, 1 - 0.08 / height, title, fontsize=14, color=INK, fontweight="bold", va="top")
    lines = [line for paragraph in paragraphs for line in textwrap.wrap(paragraph, 205)]
    figure.text(0.012, 0.1 / height, "\n".join(lines), fontsize=8, color=FAINT, va="bottom", linespacing=1.3)
    figure.subplots_adjust(right=0.985, bottom=(foot + 0.16 * len(lines)) / height, **edges)
    save_png(figure, out, dpi=130)


def caption(summary: Summary, with_peer: bool) -> list[str]:
    """What was run on what, for people who see nothing but the picture: paragraphs."""
    counts = sorted({len(row.totals) for row in summary.rows})
    runs = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    runs = "One run of each" if counts == [1] else f"Median of {runs} runs (best–worst)"
    weights = sorted({row.weights for row in summary.rows})
    made = "random weights of the published shapes" if weights == ["random"] else f"weights: {', '.join(weights)}"
    versions = ", ".join(f"{name} {version}" for name, version in summary.versions.items() if name != "numpy")
    device = "" if summary.device == "cpu" else f", {summary.device}"
    paragraphs = [
        "Cold: from the start of a new process, its files in the page cache, to WAV files on disk. "
        f"{runs}; “again” is a second call in the same process, GB the peak of its memory. "
        f"Black line: floor of the language model, bytes of its weights × steps ÷ {summary.speed.get('GB/s', 0):.0f} "
        "GB/s measured beside the runs.",
        f"{made[0].upper()}{made[1:]}. {summary.machine}{device}; {versions}; commit {', '.join(summary.commits)}; "
        f"{', '.join(summary.dates)}.",
    ]
    if summary.text_tokens:
        t5 = "a random T5 of t5-base's shape" if weights == ["random"] else "T5"
        tokens = " or ".join(map(str, sorted(set(summary.text_tokens.values()))))
        paragraphs[-1] += (
            f" {', '.join(summary.text_tokens)}: a text of {tokens} tokens through {t5}, which counts as loading, and "
            "classifier-free guidance; the ONNX player plays models without text only."
        )
    if with_peer:
        paragraphs.append(
            "Recorded: audiocraft 1.3.0 with torch 2.1.0, float32, random weights, once, on 2 cores of an AMD EPYC "
            "(Zen 3), to audio in memory; not measured again here (assets/bench)."
        )
    return paragraphs


def _panel(axes: "Axes", model: str, batch: int, rows: list[Row], places: int) -> None:
    """Bars of one model with one number of clips, the peer's on top, in a panel that has `places` for bars."""
    seconds = f" of {rows[0].seconds:g} s" if rows else ""
    clips = f"1 clip{seconds}" if batch == 1 else f"{batch} clips{seconds} at once"
    plain(axes, f"{_title(model)}: {clips}", pad=6)
    if not rows:
        axes.set_axis_off()
        return
    longest = max(row.total for row in rows)
    for place, row in enumerate(rows):
        left = 0.0
        alpha = 0.45 if row.recorded else 1.0
        for phase in PHASES:
            width = row.phases.get(phase, 0.0)
            axes.barh(place, width, _BAR, left=left, color=COLOURS[phase], alpha=alpha, linewidth=0)
            if phase == "lm" and row.floor_lm:
                floor = [left, left + row.floor_lm]
                bottom = [place + _BAR / 2 - 0.04] * 2
                axes.plot(floor, bottom, color="black", linewidth=2.6, solid_capstyle="butt")
            left += width
        if row.first is not None:
            axes.plot(row.first, place - _BAR / 2 - 0.02, "v", color="#c0392b", markersize=6, clip_on=False, zorder=3)
        axes.text(row.total + 0.012 * longest, place, _label(row), va="center", fontsize=8.5, color=INK)
    axes.set_yticks(range(len(rows)), [_name(row) for row in rows], fontsize=9)
    # Room for what is written beside the longest bar; little of it is where that is the peer's.
    axes.set_xlim(0, max(row.total * (1.2 if row.recorded else 1.55) for row in rows))
    axes.set_xticks([tick for tick in axes.get_xticks() if tick <= longest])
    axes.spines["bottom"].set_bounds(0, longest)
    axes.set_ylim(places - 0.4, -0.75)
    axes.set_xlabel("seconds", fontsize=8, color=FAINT, loc="left", labelpad=1)


def _title(model: str) -> str:
    return {"micro": "micro (134 M)", "small": "musicgen-small (420 M)"}.get(model, model)


def _name(row: Row) -> str:
    if row.recorded:
        return f"{row.engine}\n(recorded)"
    engine = row.engine.partition("-")[0]
    return f"{'ONNX player' if engine == 'player' else 'torch'}\n{row.precision}"


def _label(row: Row) -> str:
    """Total, spread, first sound, second call."""
    text = f"{_seconds(row.total)} s"
    if len(row.totals) > 1:
        text += f" ({_seconds(min(row.totals))}–{_seconds(max(row.totals))})"
    more = []
    if row.first is not None:
        more.append(f"first sound {_seconds(row.first)} s")
    if row.warm:
        more.append(f"again {_seconds(row.warm['total'])} s")
    if row.peak_mib:
        more.append(f"{row.peak_mib * _BYTES_PER_MIB / 1e9:.1f} GB")
    return f"{text}\n{', '.join(more)}" if more else text


def _seconds(value: float) -> str:
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 9.95 else f"{value:.2f}"


def _legend(figure: "Figure", height: float) -> None:
    """Colours of the phases, in one line at the top."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[tp.Any] = [Patch(color=COLOURS[phase], label=PHASE_NAMES[phase]) for phase in PHASES]
    handles.append(Line2D([], [], color="black", linewidth=2.6, label="floor of the language model"))
    handles.append(Line2D([], [], marker="v", color="#c0392b", linestyle="", label="first sound of a stream"))
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.005, 1 - 0.33 / height),
        ncols=len(handles),
        frameon=False,
        fontsize=9,
        handlelength=1.2,
        columnspacing=1.4,
    )
