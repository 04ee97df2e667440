"""The demo's page: one HTML file with pictures inside and sound files beside it, for opening from disk."""

import base64
import html
import io
import typing as tp
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from audiocraft.utils.tables import cell

ACCENT, SECOND, INK = "#7ee0c3", "#f2a65a", "#c8d3dc"
TEMPLATE = Path(__file__).with_suffix(".html")
# Rows of the table of measures: keys of `sound --json`, what they mean, decimals.
MEASURES = (
    ("beat", "beat: 0.1 is noise, 1 a metronome", 2),
    ("repetition", "self-repetition: share of the seconds that come again", 2),
    ("silence", "silence, share of the time", 2),
    ("distance", "distance from the material, in timbre and rhythm", 1),
    ("difference", "difference between takes", 2),
    ("copied", "copied: share of seconds that are some second of the material", 2),
)
LOWEST_HZ, MEL_BANDS, DYNAMICS_DB = 40.0, 160, 80.0


@dataclass
class Clip:
    """One sound of the page.

    `prompt_seconds` marks how much of it was given to the model; `facts` are small print.
    """

    title: str
    audio: Path
    facts: str = ""
    prompt_seconds: float = 0.0


@dataclass
class Section:
    """A heading, a sentence or two, and sounds, or a table (its first row the heads) and a picture."""

    title: str
    text: str
    clips: tp.Sequence[Clip] = ()
    table: tp.Sequence[tp.Sequence[str]] = ()
    picture: Path | None = None


@dataclass
class Page:
    """All that the page shows. `curves` maps a name to (x, loss) pairs; `headline` are (number, what it is) pairs."""

    title: str
    intro: str
    headline: list[tuple[str, str]]
    curves: dict[str, list[tuple[float, float]]]
    curve_text: str
    sections: list[Section]
    parameters: list[tuple[str, str]]
    commands: list[str] = field(default_factory=list)


def write_page(page: Page, path: Path) -> None:
    """Write the page; the clips' files must lie in or below its folder."""
    from audiocraft.utils.files import write_text

    sections = "\n".join(_section(section, path.parent) for section in page.sections)
    text = TEMPLATE.read_text(encoding="utf-8")
    for name, value in {
        "title": html.escape(page.title),
        "intro": html.escape(page.intro),
        "headline": "\n".join(
            f"<div><b>{html.escape(number)}</b><span>{html.escape(what)}</span></div>" for number, what in page.headline
        ),
        "curve": loss_picture(page.curves),
        "curve_text": html.escape(page.curve_text),
        "sections": sections,
        "parameters": "\n".join(
            f"<tr><th>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>" for key, value in page.parameters
        ),
        "commands": html.escape("\n".join(page.commands)),
    }.items():
        text = text.replace("{{" + name + "}}", value)
    write_text(path, text)


def _section(section: Section, folder: Path) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2><p>{html.escape(section.text)}</p>"]
    if section.clips:
        clips = "\n".join(_clip(clip, folder) for clip in section.clips)
        parts.append(f'<div class="grid">{clips}</div>')
    if section.table:
        rows = "\n".join(_row(row, "th" if i == 0 else "td") for i, row in enumerate(section.table))
        parts.append(f'<div class="panel"><table class="measures">{rows}</table></div>')
    if section.picture is not None:
        source = html.escape(section.picture.relative_to(folder).as_posix(), quote=True)
        parts.append(
            f'<a href="{source}"><img class="figure" alt="{html.escape(section.title, quote=True)}" src="{source}"></a>'
        )
    return f"<section>{''.join(parts)}</section>"


def _row(cells: tp.Sequence[str], kind: str) -> str:
    first, *rest = (html.escape(cell) for cell in cells)
    return f"<tr><th>{first}</th>" + "".join(f"<{kind}>{cell}</{kind}>" for cell in rest) + "</tr>"


def _clip(clip: Clip, folder: Path) -> str:
    import soundfile

    source = html.escape(clip.audio.relative_to(folder).as_posix(), quote=True)
    share = 100 * clip.prompt_seconds / soundfile.info(clip.audio).duration
    prompt = f'<i class="prompt" style="width:{share:.2f}%"><u>prompt</u></i>' if share else ""
    facts = f"<small>{html.escape(clip.facts)}</small>" if clip.facts else ""
    picture = base64.b64encode(spectrogram_png(clip.audio)).decode()
    return (
        f'<figure><figcaption>{html.escape(clip.title)}</figcaption><div class="picture">'
        f'<img alt="Spectrogram of {html.escape(clip.title, quote=True)}" src="data:image/png;base64,{picture}">'
        f'{prompt}<i class="head"></i></div>'
        f'<audio controls preload="metadata" src="{source}"></audio>{facts}</figure>'
    )


def measures_table(measured: dict[str, tp.Any]) -> list[list[str]]:
    """Measures down, groups across, as `sound` found them."""

    def value(group: dict[str, tp.Any], key: str) -> float | None:
        if key == "distance":
            return (group["distance"] or {}).get("all")
        return group[key] if key in group else group["median"][key]

    rows = [
        [text, *(cell(value(group, key), decimals) for group in measured.values())] for key, text, decimals in MEASURES
    ]
    return [["", *measured], *rows]


def copied_text(measured: dict[str, tp.Any]) -> str:
    """How much of the takes is quoted, in a sentence."""
    copied, held_out = (measured.get(group, {}).get("copied") for group in ("takes", "held out"))
    text = "Medians over the takes above, the material, and that material through the codec and back."
    if copied is None:
        return text
    text += f" {100 * copied:.0f} % of the takes' seconds are, by their codes, a second of the material"
    if held_out is not None:
        text += f"; of tracks that were held out, which quote nothing, {100 * held_out:.0f} % are"
    return text + "."


def spectrogram(wav: np.ndarray, sample_rate: int, columns: int = 640) -> np.ndarray:
    """Level in dB below the loudest, [MEL_BANDS, columns], of wav [T]; frequencies spaced as the ear has them (mel)."""
    size = 2048
    padded = np.pad(wav, (size // 2, size // 2))
    starts = np.linspace(0, len(wav), columns, endpoint=False).astype(int)
    frames = np.stack([padded[start : start + size] for start in starts]) * np.hanning(size)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    top_mel = 2595 * np.log10(1 + sample_rate / 2 / 700)
    low_mel = 2595 * np.log10(1 + LOWEST_HZ / 700)
    hertz = 700 * (10 ** (np.linspace(low_mel, top_mel, MEL_BANDS) / 2595) - 1)
    bins = hertz / sample_rate * size
    level = 10 * np.log10(power + 1e-10)
    low = np.floor(bins).astype(int).clip(0, level.shape[1] - 2)
    share = (bins - low).clip(0, 1)
    bands = level[:, low] * (1 - share) + level[:, low + 1] * share
    return np.maximum(bands - max(bands.max(), -60.0), -DYNAMICS_DB).T


def spectrogram_png(audio: Path) -> bytes:
    """The spectrogram of a sound file as a PNG, low frequencies at the bottom."""
    import soundfile
    from matplotlib import colormaps
    from PIL import Image

    wav, sample_rate = soundfile.read(audio, dtype="float32", always_2d=True)
    levels = spectrogram(wav.mean(axis=1), sample_rate)[::-1]
    colours = colormaps["magma"](1 + levels / DYNAMICS_DB, bytes=True)[..., :3]
    out = io.BytesIO()
    Image.fromarray(colours).quantize(96).save(out, "PNG", optimize=True)
    return out.getvalue()


def loss_picture(curves: dict[str, list[tuple[float, float]]]) -> str:
    """The loss curves as an SVG that takes the page's width."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator

    style: tp.Any = {"text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK}
    style |= {"font.size": 12, "svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": "demo"}
    with plt.rc_context(style):
        figure, axes = plt.subplots(figsize=(10, 3.8))
        figure.patch.set_alpha(0)
        axes.set_facecolor("none")
        for (name, points), colour in zip(curves.items(), (ACCENT, SECOND)):
            x, y = zip(*points) if points else ((), ())
            axes.plot(x, y, color=colour, marker="o", markersize=3.5, linewidth=2)
            if points:
                axes.annotate(
                    f"{name} {y[-1]:.2f}", (x[-1], y[-1]), (8, 0), textcoords="offset points", color=colour, va="center"
                )
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color("#3a4652")
        axes.grid(axis="y", color="#26303a", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel("cross-entropy (nats)")
        axes.margins(x=0.02)
        figure.subplots_adjust(left=0.07, right=0.86, top=0.97, bottom=0.16)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
        plt.close(figure)
    text = out.getvalue()
    svg = text[text.index("<svg") :]
    return svg.replace("<svg", '<svg class="curve" role="img" aria-label="Loss by epoch"', 1)
