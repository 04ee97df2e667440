"""Write the model card (README.md) of a codec's folder from what its files say, and its training curve (training.png).

    python scripts/make_codec_asset.py RUN --out assets/NAME
    python -m audiocraft codec eval assets/NAME HELD_OUT --out assets/NAME
    python scripts/codec_card.py assets/NAME --trained-on "20 minutes of ..." --held-out "12 of ..." --note "..."

Needs config.yaml and training.json, which the first command writes, and eval.json and eval.png, which the second does.
"""

import argparse
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

from make_codec_asset import trainings

NEEDED = {
    "config.yaml": "scripts/make_codec_asset.py",
    "training.json": "scripts/make_codec_asset.py",
    "eval.json": "-m audiocraft codec eval --out",
    "eval.png": "-m audiocraft codec eval --out",
}
DISTANCES = {"log_mel_db": 2, "log_mel_below_4khz_db": 2, "stft": 3, "si_sdr_db": 1}


def card(folder: Path, trained_on: str, held_out: str, notes: list[str]) -> str:
    """The card as Markdown.

    Raises:
        UserError: a file that it is written from is missing.
    """
    from omegaconf import OmegaConf

    from audiocraft.errors import UserError
    from audiocraft.models.loaders import load_compression_model

    for name, maker in NEEDED.items():
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} is missing; make it with python {maker}")
    cfg: Any = OmegaConf.load(folder / "config.yaml")
    runs = trainings(folder / "training.json")
    evaluation = json.loads((folder / "eval.json").read_text(encoding="utf-8"))
    codec = load_compression_model(folder)
    name = folder.resolve().name
    parameters = sum(parameter.numel() for parameter in codec.parameters())
    kbps = codec.frame_rate * codec.num_codebooks * math.log2(codec.cardinality) / 1000
    megabytes = (folder / "model.safetensors").stat().st_size / 1e6
    sections = [
        f"# {name}",
        f"A small EnCodec ({channels(codec.channels)}, {codec.sample_rate / 1000:g} kHz): {codec.frame_rate:g} frames "
        f"per second, {codec.num_codebooks} codebooks of {codec.cardinality} codes, {kbps:.1f} kb/s; "
        f"{parameters:,} parameters besides the codebooks, {megabytes:.1f} MB on disk. "
        f"It loads as `//pretrained/{name}`. Licence: MIT, as the code.",
        "## Training",
        f"Material: {trained_on}.",
        "\n".join(f"{number}. {run_facts(run)}" for number, run in enumerate(runs, start=1)),
        "![loss on held-out segments](training.png)",
        "`training.json` has every epoch. A run on other material has other held-out segments: its curve starts anew.",
        "## What it does to audio it never saw",
        f"{held_out[:1].upper()}{held_out[1:]}: {len(evaluation['scores'][0]['files'])} files, "
        f"{evaluation['seconds'] / 60:.1f} minutes, measured with `python -m audiocraft codec eval` at "
        f"{evaluation['sample_rate'] / 1000:g} kHz on {evaluation['device']}, {evaluation['threads']} threads. "
        "Log-mel: mean difference over four window sizes in dB, over the whole band and below 4 kHz; STFT: distance of "
        "magnitudes; both lower is better. SI-SDR in dB, higher is better. kb/s: entropy of the codes; of Opus its "
        "packets. `eval.json` has every file.",
        means(evaluation),
        "| codebook | entries hit | perplexity | bits |\n|---|---|---|---|\n" + codebooks(evaluation),
        "![original, reconstructions and distances](eval.png)",
        "### Per file",
        per_file(evaluation),
        "## Limits",
        "\n".join(f"- {line}" for line in [*limits(cfg, runs), *notes]),
    ]
    return "\n\n".join(sections) + "\n"


def channels(count: int) -> str:
    return {1: "mono", 2: "stereo"}.get(count, f"{count} channels")


def run_facts(run: dict[str, Any]) -> str:
    """One run in sentences."""
    losses = ", ".join(f"{name} × {weight:g}" for name, weight in run["losses"].items() if weight)
    balanced = ", as shares of the gradient" if run.get("balancer", {}).get("balance_grads") else ""
    valid = [epoch["valid"]["loss"] for epoch in run["history"] if "valid" in epoch]
    optim = run["optim"]
    text = (
        f"{run['steps']:,} steps of {run['batch_size']} × {run['segment_duration']:g} s "
        f"({run['train_seconds'] / 60:.0f} minutes of training), {optim['optimizer']} at a rate of {optim['lr']:g}, "
        f"seed {run['seed']}; losses: {losses}{balanced}, and the quantiser's commitment penalty"
    )
    if valid:
        text += f"; held-out loss {valid[0]:.3f} after the first epoch, {valid[-1]:.3f} at the end"
    return f"{text}; kept: {run['weights']} weights."


def means(evaluation: dict[str, Any]) -> str:
    """Each codec and reference, means over files."""
    lines = ["| mean over files | log-mel | < 4 kHz | STFT | SI-SDR | kb/s | encode | decode |", "|" + "---|" * 8]
    for score in evaluation["scores"]:
        values = [cell(score["mean"][key], digits) for key, digits in DISTANCES.items()]
        rate = score["bits_per_second"]
        speeds = [cell(score[f"{way}_speed"], 0, " ×") for way in ("encode", "decode")]
        lines.append("| " + " | ".join([score["name"], *values, cell(rate and rate / 1000, 2), *speeds]) + " |")
    return "\n".join(lines)


def cell(value: float | None, digits: int, unit: str = "") -> str:
    return "–" if value is None else f"{value:.{digits}f}{unit}"


def codebooks(evaluation: dict[str, Any]) -> str:
    """The codec's codebooks, one row each."""
    return "\n".join(
        f"| {number} | {one['used']} of {one['bins']} ({100 * one['used'] / one['bins']:.0f} %) "
        f"| {one['perplexity']:.0f} | {one['bits']:.2f} |"
        for number, one in enumerate(evaluation["scores"][0]["codebooks"], start=1)
    )


def per_file(evaluation: dict[str, Any]) -> str:
    """Log-mel distances of every file: whole band and below 4 kHz, the codec beside Opus."""
    scores = [score for score in evaluation["scores"] if score["kind"] in ("codec", "opus")]
    names = " | ".join(f"{score['name']}, whole / < 4 kHz" for score in scores)
    lines = [f"| file | seconds | {names} |", "|---" * (2 + len(scores)) + "|"]
    for rows in zip(*(score["files"] for score in scores)):
        cells = [f"{row['log_mel_db']:.2f} / {row['log_mel_below_4khz_db']:.2f}" for row in rows]
        lines.append(f"| {Path(rows[0]['file']).name} | {rows[0]['seconds']:.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def limits(cfg: Any, runs: list[dict[str, Any]]) -> list[str]:
    """What follows from how it is built."""
    lines = [
        f"Everything is brought to {channels(cfg.channels)} at {cfg.sample_rate / 1000:g} kHz: nothing above "
        f"{cfg.sample_rate / 2000:g} kHz comes back.",
    ]
    if not any(run["losses"].get(name) for run in runs for name in ("adv", "feat")):
        lines.append("Trained without adversaries: noise is coded like everything else, not made anew.")
    return lines


def draw_training(runs: list[dict[str, Any]], out: Path) -> None:
    """Reconstruction losses on held-out segments over all steps, run after run, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from audiocraft.utils.files import atomic_path

    names = [name for name in ("l1", "msspec", "mel", "sisnr") if any(run["losses"].get(name) for run in runs)]
    figure = Figure(figsize=(8, 2.2 * len(names) + 0.6), layout="constrained")
    axes = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    begin = 0.0
    for number, run in enumerate(runs, start=1):
        per_epoch = run["steps"] / max(1, len(run["history"]))
        for axis, name in zip(axes, names):
            points = [
                (begin + index * per_epoch, epoch["valid"][name])
                for index, epoch in enumerate(run["history"], start=1)
                if name in epoch.get("valid", {})
            ]
            axis.plot(*zip(*points), marker=".", label=f"run {number}") if points else None
        begin += run["steps"]
    for axis, name in zip(axes, names):
        axis.set_ylabel(f"held-out {name}")
        axis.set_yscale("log")
        axis.grid(alpha=0.3, which="both")
    axes[0].legend(fontsize=8)
    axes[-1].set_xlabel("steps")
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    with atomic_path(out) as file:
        file.write_bytes(buffer.getvalue())


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, write card and curve; returns the exit status."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the codec's folder")
    parser.add_argument("--trained-on", required=True, help="what it was trained on, and how to make that again")
    parser.add_argument("--held-out", required=True, help="what the evaluation measured")
    parser.add_argument("--note", action="append", default=[], help="a further limit, seen or heard; may be repeated")
    options = parser.parse_args(argv)
    from audiocraft.errors import UserError
    from audiocraft.utils.files import atomic_path

    try:
        text = card(options.folder, options.trained_on, options.held_out, options.note)
        draw_training(trainings(options.folder / "training.json"), options.folder / "training.png")
        with atomic_path(options.folder / "README.md") as file:
            file.write_text(text, encoding="utf-8")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"written to {options.folder / 'README.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
