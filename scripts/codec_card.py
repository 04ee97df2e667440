"""Write the model card (README.md) of a codec's folder from what its files say, and its training curve (training.png).

    python scripts/make_codec_asset.py RUN --out assets/NAME
    python -m audiocraft codec eval assets/NAME HELD_OUT --out assets/NAME
    python scripts/codec_card.py assets/NAME --trained-on "20 minutes of ..." --held-out "12 of ..." --note "..."

Only of a codec under assets/ it says that it is MIT; of others, that the licence is whoever trained it to choose, or
that of the weights it began with.

Needs config.yaml and training.json, which the first command writes, and eval.json and eval.png, which the second does.
Where HELD_OUT has folders, each gets means of its own. `--bend SOUND` bends a sound in eight ways, and tells how
different they come out. A `designs.json` in the folder, what else was tried and measured, becomes a table too.
"""

import argparse
import itertools
import math
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from make_codec_asset import trainings
from matplotlib.figure import Figure
from told import tell

from audiocraft.checkpoints.card import front_matter, is_noncommercial, licence_text
from audiocraft.checkpoints.configs import read_config
from audiocraft.checkpoints.locate import shipped_codec
from audiocraft.commands import codec as commands
from audiocraft.data.audio import audio_read
from audiocraft.errors import UserError
from audiocraft.metrics.reconstruction import log_mel_distance
from audiocraft.models.loaders import load_compression_model
from audiocraft.utils.figures import save_png
from audiocraft.utils.files import read_json, write_text
from audiocraft.utils.tables import cell, markdown

NEEDED = {
    "config.yaml": "scripts/make_codec_asset.py",
    "training.json": "scripts/make_codec_asset.py",
    "eval.json": "-m audiocraft codec eval --out",
    "eval.png": "-m audiocraft codec eval --out",
}
DESIGNS = "designs.json"
BENDS = 8
# Names and digits in the table; hum has a column for every rate that was asked for.
MEASURES = {
    "log_mel_db": ("log-mel", 2),
    "log_mel_below_4khz_db": ("< 4 kHz", 2),
    "pitch_kept": ("pitch", 2),
    "onsets": ("onsets", 2),
    "stft": ("STFT", 3),
    "si_sdr_db": ("SI-SDR", 1),
}


def card(
    folder: Path, trained_on: str | None, held_out: str | None, notes: list[str], sound: Path | None = None
) -> str:
    """The card as Markdown; `sound` is bent for it.

    Raises:
        UserError: a file that it is written from is missing or damaged, or `sound` cannot be read.
    """
    for name, maker in NEEDED.items():
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} is missing; make it with python {maker}")
    cfg: Any = read_config(folder / "config.yaml")
    runs = trainings(folder / "training.json")
    codec = load_compression_model(folder)
    name = folder.resolve().name
    parameters = sum(parameter.numel() for parameter in codec.parameters())
    kbps = codec.frame_rate * codec.num_codebooks * math.log2(codec.cardinality) / 1000
    megabytes = (folder / "model.safetensors").stat().st_size / 1e6
    spectral = "spectral" in cfg
    # It has no parameters that a gradient moves: its tables count.
    tables = sum(table.numel() for table in codec.state_dict().values()) if spectral else parameters
    kind = "A spectral codec, envelopes and partials without a network" if spectral else "A small EnCodec"
    size = f"{tables:,} {'numbers' if spectral else 'parameters besides the codebooks'}"
    sections = [
        f"# {name}",
        f"{kind} ({channels(codec.channels)}, {codec.sample_rate / 1000:g} kHz): {codec.frame_rate:g} frames "
        f"per second, {codec.num_codebooks} codebooks of {codec.cardinality} codes, {kbps:.1f} kb/s; "
        f"{size}, {megabytes:.1f} MB on disk. ",
    ]
    with reading(folder / "training.json"):
        noncommercial = is_noncommercial(" ".join(begun for run in runs for begun in run.get("continue_from", [])))
        sections += training(runs, trained_on)
        built = limits(cfg, runs)
    with reading(folder / "eval.json"):
        sections += measured(read_json(folder / "eval.json"), held_out)
    if (folder / DESIGNS).is_file():
        with reading(folder / DESIGNS):
            sections += designs(read_json(folder / DESIGNS))
    if sound is not None:
        sections += bends(folder, sound, spectral)
    sections += ["## Limits", "\n".join(f"- {line}" for line in [*built, *notes])]
    if ships(folder) and not noncommercial:
        sections[1] += f"It loads as `//pretrained/{name}`. Licence: MIT, as the code."
    else:
        sections[1] += f"It loads by the path of its folder, wherever a codec is asked for: `{name}` from beside it."
        sections = [front_matter(False, noncommercial), *sections, "## Licence", licence_text(noncommercial)]
    return "\n\n".join(sections) + "\n"


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Context that reads what a JSON file says; whatever it lacks is told in one line."""
    try:
        yield
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{path} is damaged or something else ({reason}); make it again"
            + (f" with python {NEEDED[path.name]}" if path.name in NEEDED else ", or take it away")
        ) from error


def ships(folder: Path) -> bool:
    """Whether a codec's folder is one of those that `//pretrained/` finds."""
    shipped = shipped_codec(f"//pretrained/{folder.resolve().name}")
    return shipped is not None and shipped.resolve() == folder.resolve()


def training(runs: list[dict[str, Any]], trained_on: str | None) -> list[str]:
    """The section about what it was trained on, and how."""
    sections = ["## Training"]
    if trained_on:
        sections.append(f"Material: {trained_on}.")
    sections.append("\n".join(f"{number}. {run_facts(run)}" for number, run in enumerate(runs, start=1)))
    if not curves(runs):
        return [*sections, "`training.json` has every epoch."]
    return [
        *sections,
        "![loss on held-out segments](training.png)",
        "`training.json` has every epoch. A run on other material has other held-out segments: its curve starts anew.",
    ]


def measured(evaluation: dict[str, Any], held_out: str | None) -> list[str]:
    """The section about its evaluation."""
    first = evaluation["scores"][0]
    count = len(first["files"])
    return [
        "## What it does to audio it never saw" if held_out else "## What it does to audio",
        (f"{held_out[:1].upper()}{held_out[1:]}: " if held_out else "") + f"{count} file{'s' * (count != 1)}, "
        f"{evaluation['seconds'] / 60:.1f} minutes, measured with `python -m audiocraft codec eval` at "
        f"{evaluation['sample_rate'] / 1000:g} kHz on {evaluation['device']}, threads: {evaluation['threads']}. "
        "Log-mel: mean difference over four window sizes in dB, over the whole band and below 4 kHz; STFT: distance of "
        "magnitudes; both lower is better. Pitch: share of the frames with a tone whose strongest peak stays within 50 "
        "cents; onsets: correlation of attacks; SI-SDR in dB; higher is better. Hum: dB by which the multiples of so "
        "many Hz, at which decoders step, rise against what lies between; 0 is best. kb/s: entropy of the codes; of "
        "Opus its packets. `eval.json` has every file.",
        means(evaluation),
        codebooks(evaluation),
        "![original, reconstructions and distances](eval.png)",
        "### Per file",
        per_file(evaluation),
    ]


def channels(count: int) -> str:
    return {1: "mono", 2: "stereo"}.get(count, f"{count} channels")


def run_facts(run: dict[str, Any]) -> str:
    """One run in sentences."""
    text = (
        f"{run['steps']:,} steps of {run['batch_size']} × {run['segment_duration']:g} s "
        f"({run['train_seconds'] / 60:.0f} minutes of training), seed {run['seed']}"
    )
    if "losses" in run:
        losses = ", ".join(f"{name} × {weight:g}" for name, weight in run["losses"].items() if weight)
        balanced = ", as shares of the gradient" if run.get("balancer", {}).get("balance_grads") else ""
        optim, what = run["optim"], "loss"
        text += f", {optim['optimizer']} at a rate of {optim['lr']:g}; losses: {losses}{balanced}, and the "
        text += "quantiser's commitment penalty"
    else:
        what = "distance of envelopes in log10 of magnitudes"
        text += f"; no gradients: codebooks are moving averages (decay {run['rvq']['decay']:g}) of what they code"
    if begun := run.get("continue_from"):
        text += f"; begun with the weights of {', which went on from '.join(f'`{name}`' for name in begun)}"
    valid = [epoch["valid"]["loss"] for epoch in run["history"] if "valid" in epoch]
    if valid:
        text += f"; held-out {what} {valid[0]:.3f} after the first epoch, {valid[-1]:.3f} at the end"
    return f"{text}; kept: {run['weights']} weights."


def means(evaluation: dict[str, Any]) -> str:
    """Each codec and reference, means over files; over those of each folder where they lie in several."""
    folders = sorted({str(Path(file["file"]).parent) for file in evaluation["scores"][0]["files"]})
    if len(folders) == 1:
        return table(evaluation["scores"], "files", folders[0])
    return "\n\n".join(table(evaluation["scores"], name, name) for name in folders)


def table(scores: list[dict[str, Any]], name: str, folder: str) -> str:
    """Each codec and reference, means over the files of a folder."""

    def mean(values: Iterable[float | None]) -> float | None:
        there = [value for value in values if value is not None]
        return statistics.fmean(there) if there else None

    # Evaluations written before pitch, hum and onsets were measured lack them.
    rates = list(dict.fromkeys(rate for score in scores for rate in score["mean"].get("hum_db", {})))
    heads = [f"mean over {name}", *(head for head, _ in MEASURES.values()), *(f"hum {rate} Hz" for rate in rates)]
    heads += ["kb/s", "encode", "decode"]
    rows = []
    for score in scores:
        files = [file for file in score["files"] if str(Path(file["file"]).parent) == folder]
        values = [cell(mean(file.get(key) for file in files), digits) for key, (_, digits) in MEASURES.items()]
        values += [cell(mean(file.get("hum_db", {}).get(hz) for file in files), 1) for hz in rates]
        speeds = [cell(score[f"{way}_speed"], 0, " ×") for way in ("encode", "decode")]
        rate = score["bits_per_second"]
        rows.append([score["name"], *values, cell(rate and rate / 1000), *speeds])
    return markdown(heads, rows)


def designs(tried: dict[str, Any]) -> list[str]:
    """The section about what else was tried. `tried` has `about`, `designs` with a `name`, `what` it is and, in `tones`
    and `rhythm`, numbers by the same names in each, and `learned`: numbers by name of each codec whose codes a language
    model was trained on."""
    keys, learned = list(tried["designs"][0]["tones"]), tried["learned"]
    rows = [
        [design["name"], *(" / ".join(cell(design[kind].get(key)) for kind in ("tones", "rhythm")) for key in keys)]
        for design in tried["designs"]
    ]
    heads = list(next(iter(learned.values())))
    numbers = [[name, *(cell(facts[head], 3) for head in heads)] for name, facts in learned.items()]
    about = [f"- {design['name']}: {design['what']}." for design in tried["designs"] if "what" in design]
    tables = [markdown(["tones / rhythm", *keys], rows), markdown(["learned by a language model", *heads], numbers)]
    return ["## What was tried", tried["about"], tables[0], "\n".join(about), tables[1]]


def bends(folder: Path, sound: Path, spectral: bool) -> list[str]:
    """The section about `codec bend`: recipes of the first seeds, and how far apart they come out."""
    with tempfile.TemporaryDirectory() as out:
        options = ["bend", str(sound), "--codec", str(folder), "--seed", "0", "--out", out]
        runs = [["--rate", "1"], ["--num", str(BENDS)]] + [["--rate", "1", "--buzz"]] * spectral
        for run in runs:
            commands.app([*options, *run], standalone_mode=False)
        takes = sorted(Path(out).glob("take_*.wav"))
        waves = [audio_read(take)[0][None] for take in takes]
        facts = [read_json(take.with_suffix(".json")) for take in takes]
    rate = load_compression_model(folder).sample_rate
    apart: dict[tuple[int, int], float] = {}
    for i, j in itertools.permutations(range(len(takes)), 2):
        apart[i, j] = float(log_mel_distance(waves[j], waves[i], rate))
    rows = []
    for i in range(1, len(takes)):
        recipe = facts[i]["command"].split(" --codec ")[1].split(maxsplit=1)[1]
        nearest = min(apart[i, j] for j in range(len(takes)) if j != i)
        rows.append([f"`{recipe}`", cell(apart[i, 0], 1), cell(nearest, 1)])
    return [
        "## Bent",
        f"{sound.name}, bent as the seeds 0 to {BENDS - 1} draw it, in log-mel distances.",
        markdown(["`codec bend SOUND`", "from the sound unbent, dB", "from the nearest other, dB"], rows),
    ]


def codebooks(evaluation: dict[str, Any]) -> str:
    """The codec's codebooks, one row each."""
    rows = [
        [
            str(number),
            f"{one['used']} of {one['bins']} ({100 * one['used'] / one['bins']:.0f} %)",
            cell(one["perplexity"], 0),
            cell(one["bits"], 2),
        ]
        for number, one in enumerate(evaluation["scores"][0]["codebooks"], start=1)
    ]
    return markdown(["codebook", "entries hit", "perplexity", "bits"], rows)


def per_file(evaluation: dict[str, Any]) -> str:
    """Log-mel distance and pitch of every file, the codecs beside Opus."""
    scores = [score for score in evaluation["scores"] if score["kind"] in ("codec", "opus")]
    rows = [
        [
            Path(files[0]["file"]).name,
            cell(files[0]["seconds"], 0),
            *(f"{cell(file['log_mel_db'], 2)} / {cell(file.get('pitch_kept'), 2)}" for file in files),
        ]
        for files in zip(*(score["files"] for score in scores))
    ]
    return markdown(["file", "seconds", *(f"{score['name']}, log-mel / pitch" for score in scores)], rows)


def limits(cfg: Any, runs: list[dict[str, Any]]) -> list[str]:
    """What follows from how it is built."""
    lines = [
        f"Everything is brought to {channels(cfg.channels)} at {cfg.sample_rate / 1000:g} kHz: nothing above "
        f"{cfg.sample_rate / 2000:g} kHz comes back.",
    ]
    if "spectral" in cfg:
        lines.append("Phases are not coded: the wave itself is not followed, and SI-SDR says nothing.")
        lines.append("A frame codes one partial and three sound at once: of dense chords the rest is noise.")
    elif not any(run["losses"].get(name) for run in runs for name in ("adv", "feat")):
        lines.append("Trained without adversaries: noise is coded like everything else, not made anew.")
    return lines


def curves(runs: list[dict[str, Any]]) -> list[str]:
    """Names of the losses that were measured on held-out segments; none where no epoch was finished."""
    names = [name for run in runs for epoch in run["history"] for name in epoch.get("valid", {})]
    return [name for name in dict.fromkeys(names) if name not in ("loss", "duration")]


def draw_training(runs: list[dict[str, Any]], names: list[str], out: Path) -> None:
    """Losses `names` on held-out segments over all steps, run after run, as PNG."""
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
            if points:
                axis.plot(*zip(*points), color=f"C{number - 1}", marker=".", label=f"run {number}")
        begin += run["steps"]
    for axis, name in zip(axes, names):
        axis.set_ylabel(f"held-out {name}")
        axis.set_yscale("log")
        axis.grid(alpha=0.3, which="both")
    axes[0].legend(fontsize=8)
    axes[-1].set_xlabel("steps")
    save_png(figure, out)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, write card and curve; returns the exit status."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the codec's folder")
    parser.add_argument("--trained-on", help="what it was trained on, and how to make that again")
    parser.add_argument("--held-out", help="what the evaluation measured")
    parser.add_argument("--note", action="append", default=[], help="a further limit, seen or heard; may be repeated")
    parser.add_argument("--bend", type=Path, metavar="SOUND", help="audio file to bend")
    options = parser.parse_args(argv)
    folder: Path = options.folder

    def work() -> list[str]:
        text = card(folder, options.trained_on, options.held_out, options.note, options.bend)
        runs = trainings(folder / "training.json")
        if names := curves(runs):
            draw_training(runs, names, folder / "training.png")
        write_text(folder / "README.md", text)
        return [f"written to {folder / 'README.md'}"]

    return tell(work)


if __name__ == "__main__":
    sys.exit(main())
