"""Write the model card (README.md) of a codec's folder from what its files say.

    python scripts/codec_report.py assets/NAME HELD_OUT --out assets/NAME/figure.png --json assets/NAME/report.json
    python scripts/codec_card.py assets/NAME --trained-on "20 minutes of ..." --held-out "4 minutes of ..." --note "..."

Needs config.yaml and training.json (scripts/make_codec_asset.py) and report.json (scripts/codec_report.py).
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

NEEDED = {
    "config.yaml": "scripts/make_codec_asset.py",
    "training.json": "scripts/make_codec_asset.py",
    "report.json": "scripts/codec_report.py --json",
}


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
    training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    codec = load_compression_model(folder)
    parameters = sum(parameter.numel() for parameter in codec.parameters())
    bits = math.log2(codec.cardinality)
    kbps = codec.frame_rate * codec.num_codebooks * bits / 1000
    megabytes = (folder / "model.safetensors").stat().st_size / 1e6
    sections = [
        f"# {folder.resolve().name}",
        f"A small EnCodec ({channels(codec.channels)}, {codec.sample_rate / 1000:g} kHz): {codec.frame_rate:g} frames "
        f"per second, {codec.num_codebooks} codebooks of {codec.cardinality} codes, {kbps:.1f} kb/s; "
        f"{parameters:,} parameters besides the codebooks, {megabytes:.1f} MB on disk. "
        f"It loads as `//pretrained/{folder.resolve().name}`. Licence: MIT, as the code.",
        "## Training",
        bullets(training_facts(cfg, training, trained_on)),
        "## What it does to audio it never saw",
        f"{held_out[:1].upper()}{held_out[1:]}. Log-mel distance: mean difference over four window sizes, in dB, lower "
        "is better; SI-SDR in dB, higher is better. Baselines: silence, and every band held at its median over time.",
        table(report),
        bullets(usage(report)),
        "![original above, reconstruction below](figure.png)",
        "## Limits",
        bullets([*limits(cfg, training), *notes]),
    ]
    return "\n\n".join(sections) + "\n"


def channels(count: int) -> str:
    return {1: "mono", 2: "stereo"}.get(count, f"{count} channels")


def bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def training_facts(cfg: Any, training: dict[str, Any], trained_on: str) -> list[str]:
    """How it came to be, in sentences."""
    losses = ", ".join(f"{name} × {weight:g}" for name, weight in training["losses"].items() if weight)
    valid = [epoch["valid"]["loss"] for epoch in training["history"] if "valid" in epoch]
    optim, minutes = training["optim"], training["train_seconds"] / 60
    return [
        f"Material: {trained_on}.",
        f"{training['steps']:,} steps of {training['batch_size']} × {training['segment_duration']:g} s "
        f"({minutes:.0f} minutes of training), {optim['optimizer']} at a rate of {optim['lr']:g}, "
        f"seed {training['seed']}; weights: {training['weights']}.",
        f"Losses: {losses}, and the quantiser's commitment penalty. {adversaries(training)}",
        f"Loss on held-out segments: {valid[0]:.3f} after the first epoch, {min(valid):.3f} at best, {valid[-1]:.3f} "
        "at the end.",
        "`training.json` has every epoch; `report.json` the numbers below.",
    ]


def adversaries(training: dict[str, Any]) -> str:
    """Whether there were any."""
    weights = training["losses"]
    return "" if weights.get("adv") or weights.get("feat") else "No adversaries."


def table(report: dict[str, Any]) -> str:
    """Distances per file."""
    lines = ["| file | log-mel distance | SI-SDR | silence | median |", "|---|---|---|---|---|"]
    for row in [*report["files"], {"file": "mean", **report["mean"]}]:
        lines.append(
            f"| {row['file']} | {row['log_mel_distance']:.2f} | {row['si_sdr']:.2f} "
            f"| {row['silence_log_mel_distance']:.2f} | {row['median_log_mel_distance']:.2f} |"
        )
    return "\n".join(lines)


def usage(report: dict[str, Any]) -> list[str]:
    """Codes in use, and speed."""
    used = ", ".join(str(one["used"]) for one in report["codebooks"])
    perplexities = ", ".join(f"{one['perplexity']:.0f}" for one in report["codebooks"])
    return [
        f"Codes met in these {report['seconds']:.0f} s, of {report['codebooks'][0]['bins']} per codebook: {used} "
        f"(perplexity {perplexities}).",
        f"Encoding runs at {report['encode_times_real_time']:g} ×, decoding at {report['decode_times_real_time']:g} × "
        f"real time with {report['threads']} thread(s) of the machine that measured.",
    ]


def limits(cfg: Any, training: dict[str, Any]) -> list[str]:
    """What follows from how it is built."""
    lines = [
        f"Everything is brought to {channels(cfg.channels)} at {cfg.sample_rate / 1000:g} kHz: nothing above "
        f"{cfg.sample_rate / 2000:g} kHz comes back.",
    ]
    if adversaries(training):
        lines.append("Trained without adversaries: noise is coded like everything else, not made anew.")
    return lines


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and write the card; returns the exit status."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the codec's folder")
    parser.add_argument("--trained-on", required=True, help="what it was trained on, and how to make that again")
    parser.add_argument("--held-out", required=True, help="what the report measured")
    parser.add_argument("--note", action="append", default=[], help="a further limit, seen or heard; may be repeated")
    options = parser.parse_args(argv)
    from audiocraft.errors import UserError
    from audiocraft.utils.files import atomic_path

    try:
        text = card(options.folder, options.trained_on, options.held_out, options.note)
        with atomic_path(options.folder / "README.md") as file:
            file.write_text(text, encoding="utf-8")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"written to {options.folder / 'README.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
