"""A picture of an evaluation: one excerpt as each codec gives it back, and what was measured as bars."""

import typing as tp
from dataclasses import dataclass
from pathlib import Path

import torch

from ..data.audio import audio_read
from ..data.audio_utils import convert_audio
from ..utils.figures import save_png
from ..utils.tables import cell
from .codec_eval import SILENCE, Evaluation, Score
from .coders import Coder
from .hearing import magnitudes

if tp.TYPE_CHECKING:
    from matplotlib.axes import Axes

EXCERPT_SECONDS = 5.0
# Below the original's loudest point by more than this, a spectrogram is black.
RANGE_DB = 80.0
_WINDOW, _HOP = 1024, 256
_COLOURS = {"codec": "tab:red", "codebooks": "tab:orange", "opus": "tab:blue", "baseline": "0.6"}
_PANELS = {
    "log_mel_db": "log-mel distance, dB",
    "log_mel_below_4khz_db": "log-mel below 4 kHz, dB",
    "pitch_kept": "pitch kept (higher is better)",
    "hum_db": "hum at its own rates, dB",
    "onsets": "onsets (higher is better)",
}


@dataclass
class Excerpt:
    """The same stretch of one file from each source: (name, wave [C, T]), the original first."""

    file: str
    start: float
    sample_rate: int
    waves: list[tuple[str, torch.Tensor]]


def take_excerpt(
    evaluation: Evaluation,
    coders: tp.Sequence[Coder],
    seconds: float = EXCERPT_SECONDS,
    device: torch.device | str = "cpu",
) -> Excerpt:
    """An excerpt of a typical file, coded anew.

    The file is the one whose log-mel distance is the median of the first coder's, the place the middle of what was
    measured. Coders with fewer codebooks are left out; bars show those.
    """
    files = sorted(evaluation.scores[0].files, key=lambda file: file.log_mel_db)
    file = files[(len(files) - 1) // 2]
    start, length = max(0.0, (file.seconds - seconds) / 2), min(seconds, file.seconds)
    # One sample more, so that rounding down, here and there, leaves something of a file of a few samples.
    wav, rate = audio_read(file.file, start, length + 1 / evaluation.sample_rate)
    original = convert_audio(wav, rate, evaluation.sample_rate, evaluation.channels).to(device)
    original = original[:, : round(length * evaluation.sample_rate)]
    waves = [("original", original.cpu())]
    for coder in coders:
        if coder.kind != "codebooks":
            waves.append((coder.name, coder.code(original, evaluation.sample_rate).wav.cpu()))
    return Excerpt(file.file, start, evaluation.sample_rate, waves)


def draw(evaluation: Evaluation, excerpt: Excerpt, out: str | Path) -> None:
    """Write the figure as PNG: spectrograms above, bars of the means over files below.

    Raises:
        UserError: `out` cannot be written.
    """
    from matplotlib.figure import Figure

    columns = 2
    rows = -(-len(excerpt.waves) // columns)
    # Silence is so far off that beside it all others look alike; it stands in the table.
    scores = [score for score in evaluation.scores if score.name != SILENCE]
    bars = 0.28 * len(scores) + 0.9
    figure = Figure(figsize=(12, 2.6 * rows + bars + 0.7), layout="constrained")
    parts: tp.Any = figure.subfigures(2, 1, height_ratios=[2.6 * rows + 0.7, bars])
    above, below = parts
    axes = above.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    _draw_spectrograms(axes, excerpt)
    where = f"{Path(excerpt.file).name} from {excerpt.start:.1f} s"
    above.suptitle(f"{where}; {RANGE_DB:g} dB below the original's loudest point is black", fontsize=10)
    panels = below.subplots(1, len(_PANELS), sharey=True)
    for axis, (key, title) in zip(panels, _PANELS.items()):
        _draw_bars(axis, scores, key, title)
    panels[0].invert_yaxis()
    save_png(figure, out)


def _draw_spectrograms(axes: tp.Any, excerpt: Excerpt) -> None:
    powers = [(name, spectrogram_db(wav)) for name, wav in excerpt.waves]
    top = max(float(powers[0][1].max()), -RANGE_DB)
    cells = list(axes.flat)
    for axis, (name, power) in zip(cells, powers):
        seconds = excerpt.waves[0][1].shape[1] / excerpt.sample_rate
        axis.imshow(
            power.numpy(),
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=top - RANGE_DB,
            vmax=top,
            extent=(0, seconds, 0, excerpt.sample_rate / 2000),
        )
        axis.set_title(name, fontsize=10)
        axis.set_ylabel("kHz")
    for axis in cells[len(powers) :]:
        axis.set_visible(False)
    last = cells[: len(powers)][-axes.shape[1] :]
    for axis in last:
        axis.set_xlabel("seconds")
        axis.tick_params(labelbottom=True)


def spectrogram_db(wav: torch.Tensor) -> torch.Tensor:
    """Power in dB, [bins, frames], of the mix of wav [C, T]; 0 dB is a full-scale sine."""
    full_scale = torch.hann_window(_WINDOW).sum() / 2
    return 20 * torch.log10(magnitudes(wav, _WINDOW, _HOP) / full_scale + 1e-9)


def _draw_bars(axis: "Axes", scores: tp.Sequence[Score], key: str, title: str) -> None:
    if key == "hum_db":  # at the rate where it is worst
        values = [max(score.hums().values(), default=None) for score in scores]
    else:
        values = [score.mean(key) for score in scores]
    places = range(len(scores))
    colours = [_COLOURS[score.kind] for score in scores]
    axis.barh(places, [value or 0.0 for value in values], color=colours, height=0.7)
    axis.set_yticks(list(places), [score.name for score in scores], fontsize=8)
    axis.set_title(title, fontsize=9)
    axis.tick_params(axis="x", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.axvline(0, color="black", linewidth=0.6)
    low, high = axis.get_xlim()
    axis.set_xlim(low - 0.3 * (high - low) * (low < 0), high + 0.18 * (high - low))
    for place, value in zip(places, values):
        axis.annotate(
            cell(value),
            (value or 0.0, place),
            xytext=(3 if (value or 0.0) >= 0 else -3, 0),
            textcoords="offset points",
            ha="left" if (value or 0.0) >= 0 else "right",
            va="center",
            fontsize=8,
        )
