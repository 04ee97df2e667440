"""The picture of `size.py`: parameters, files and memory of every scale against musicgen-small."""

import typing as tp
from pathlib import Path

from audiocraft.utils.tables import text_table

from .figure import FAINT, GUIDE, INK, finish, plain
from .record import Record, newest
from .sizes import MEMORY_BATCH, MEMORY_SECONDS
from .summary import peer_rows

if tp.TYPE_CHECKING:
    from matplotlib.axes import Axes

_LM, _CODEC, _PEER = "#2f6db5", "#e08e2b", "#9a9a9a"
# Files of the same size are one mark; a format's place in the list is its place in the legend.
FORMATS = {
    "peer, float32": ("o", "#2f6db5", ".bin or safetensors, float32"),
    "peer, float16": ("s", "#79b4e8", "float16, as facebook publishes"),
    "ONNX, int8": ("D", "#c0392b", "ONNX player, int8 (codec's encoder left out)"),
}
_REFERENCE = "small"


class Sizes:
    """What the newest session of a record says: scales from small to large, and memory by scale and engine.

    Raises:
        SystemExit: the record holds no scale.
    """

    def __init__(self, records: tp.Sequence[Record]) -> None:
        scales = newest([record for record in records if record["what"] == "scale"], "scale")
        if not scales:
            raise SystemExit("error: the record holds no sizes; run python scripts/size.py")
        self.scales = sorted({record["scale"]: record for record in scales}.values(), key=lambda record: record["lm"])
        self.memory = {
            (record["scale"], record["engine"]): record
            for record in newest([r for r in records if r["what"] == "memory"], "scale", "engine")
        }
        self.peer = {row.model: row.peak_mib for row in peer_rows() if row.batch == MEMORY_BATCH}

    @property
    def reference(self) -> int | None:
        """Parameters of musicgen-small's language model, where it was counted."""
        return next((record["lm"] for record in self.scales if record["scale"] == _REFERENCE), None)


def table(sizes: Sizes) -> str:
    """All numbers as text."""
    formats = max((list(record["files"]) for record in sizes.scales), key=len)
    rows = []
    for record in sizes.scales:
        files, weighed = record["files"], record["weighed"]
        megabytes = {
            name: f"{size / 1e6:,.0f} MB{'' if name in weighed else ' (computed)'}" for name, size in files.items()
        }
        numbers = [f"{record[key]:,}" for key in ("lm", "codec")]
        rows.append([record["scale"], *numbers, *(megabytes.get(name, "–") for name in formats)])
    clips = f"{MEMORY_BATCH} × {MEMORY_SECONDS:g} s"
    memory = [
        f"{scale} {engine} {one['precision']} {clips}: {one['peak_mib']:.0f} MiB at most, {one['total']:.1f} s"
        for (scale, engine), one in sizes.memory.items()
    ]
    return "\n".join([text_table(["scale", "LM parameters", "codec", *formats], rows), *memory])


def draw(sizes: Sizes, out: Path) -> None:
    """Write the figure as PNG: a line per scale; parameters, files, memory side by side."""
    from matplotlib.figure import Figure

    height = 0.62 * len(sizes.scales) + 2.2
    figure = Figure(figsize=(12.5, height), facecolor="white")
    axes = figure.subplots(1, 3, sharey=True, width_ratios=[1.0, 1.15, 1.0])
    _draw_parameters(axes[0], sizes)
    _draw_files(axes[1], sizes)
    _draw_memory(axes[2], sizes)
    names = [f"musicgen-{record['scale']}" if record["text"] else f"{record['scale']}" for record in sizes.scales]
    axes[0].set_yticks(range(len(names)), names, fontsize=10)
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    edges = {"left": 0.118, "top": 1 - 0.95 / height, "wspace": 0.08}
    finish(figure, "How large the models are", _caption(sizes), 0.45, edges, out)


def _draw_parameters(axes: "Axes", sizes: Sizes) -> None:
    plain(axes, "parameters of the language model")
    reference = sizes.reference
    for place, record in enumerate(sizes.scales):
        axes.plot([1, record["lm"]], [place, place], color=GUIDE, linewidth=2, zorder=1)
        axes.plot(record["lm"], place, "o", color=_LM, markersize=8, zorder=3)
        text = _short(record["lm"])
        if reference and record["scale"] != _REFERENCE:
            ratio = record["lm"] / reference
            text += f"   {ratio:.1f} × small" if ratio > 1 else f"   small ÷ {1 / ratio:.{1 / ratio < 10:d}f}"
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
        axes.text(record["lm"] * 1.6, place, text, va="center", fontsize=9, color=INK, bbox=box, zorder=2)
    axes.set_xscale("log")
    largest = max(record["lm"] for record in sizes.scales)
    smallest = min(record["lm"] for record in sizes.scales)
    axes.set_xlim(smallest / 3, largest * 150)
    axes.set_xticks([tick for tick in (1e6, 1e7, 1e8, 1e9) if tick > smallest / 3], minor=False)
    axes.minorticks_off()
    codec = sizes.scales[0]["codec"]
    axes.axvline(codec, color=_CODEC, linewidth=1.4, zorder=0)
    axes.text(codec, -0.62, f"codec, beside each of them: {_short(codec)}", color=_CODEC, fontsize=9, ha="center")


def _draw_files(axes: "Axes", sizes: Sizes) -> None:
    plain(axes, "model folder on disk, codec included, MB")
    for name, (marker, colour, label) in FORMATS.items():
        for place, record in enumerate(sizes.scales):
            if name not in record["files"]:
                continue
            weighed = name in record["weighed"]
            megabytes = record["files"][name] / 1e6
            face = colour if weighed else "white"
            axes.plot(megabytes, place, marker, color=colour, markerfacecolor=face, markersize=7, zorder=3)
        axes.plot([], [], marker, color=colour, markersize=7, label=label)
    for place, record in enumerate(sizes.scales):
        drawn = [record["files"][name] / 1e6 for name in FORMATS if name in record["files"]]
        axes.plot([min(drawn), max(drawn)], [place, place], color=GUIDE, linewidth=2, zorder=1)
        axes.text(max(drawn) * 1.2, place, f"{max(drawn):,.0f}", va="center", fontsize=8.5, color=INK)
        axes.text(min(drawn) / 1.2, place, f"{min(drawn):,.0f}", va="center", ha="right", fontsize=8.5, color=INK)
    axes.set_xscale("log")
    smallest = min(min(record["files"].values()) for record in sizes.scales) / 1e6
    largest = max(max(record["files"].values()) for record in sizes.scales) / 1e6
    axes.set_xlim(smallest / 2.4, largest * 3)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 0.0), fontsize=8, frameon=False, handletextpad=0.3)


def _draw_memory(axes: "Axes", sizes: Sizes) -> None:
    plain(axes, f"peak memory, {MEMORY_BATCH} × {MEMORY_SECONDS:g} s at once, GB")
    longest = max([r["peak_mib"] for r in sizes.memory.values()] + [v for v in sizes.peer.values() if v]) * 2**20 / 1e9
    for place, record in enumerate(sizes.scales):
        scale = record["scale"]
        bars = [
            (memory["peak_mib"], *_style(engine, memory["precision"]))
            for (of, engine), memory in sizes.memory.items()
            if of == scale
        ]
        if sizes.peer.get(scale):
            bars.insert(0, (sizes.peer[scale], "audiocraft 1.3.0 (recorded)", _PEER))
        if not bars:
            axes.text(0, place, " not measured", va="center", fontsize=8.5, color=FAINT)
        for i, (mib, label, colour) in enumerate(bars):
            y = place + (i - (len(bars) - 1) / 2) * 0.23
            gigabytes = mib * 2**20 / 1e9
            axes.barh(y, gigabytes, 0.19, color=colour, linewidth=0)
            axes.text(gigabytes + 0.01 * longest, y, f"{gigabytes:.1f} {label}", va="center", fontsize=7.5, color=INK)
    axes.set_xlim(0, longest * 2.0)
    axes.set_xticks([tick for tick in axes.get_xticks() if tick <= longest])


def _style(engine: str, precision: str) -> tuple[str, str]:
    return (f"torch, {precision}", _LM) if engine == "torch" else ("ONNX player, int8", "#c0392b")


def _caption(sizes: Sizes) -> list[str]:
    newest_scale = max(sizes.scales, key=lambda record: record["session"])
    lines = [
        "Random weights; codec: the 32 kHz EnCodec of the published models. Full marks: files that were written; "
        "hollow ones: computed from the shapes of the tensors. The musicgen scales listen to text, which the ONNX "
        "player does not; their T5 (t5-base: 110 M parameters) is no part of files and parameters.",
        f"{newest_scale['machine']}; torch {newest_scale['versions'].get('torch', '?')}; commit "
        f"{newest_scale['commit']}; {newest_scale['date'][:10]}.",
    ]
    if sizes.peer:
        lines[-1] += " Recorded: audiocraft 1.3.0, once, on 2 cores of an AMD EPYC; not measured again here."
    return lines


def _short(number: int) -> str:
    return f"{number / 1e9:.1f} G" if number >= 1e9 else f"{number / 1e6:.3g} M"
