"""From nothing to sound in one go: material, a model that learns it, its music, and a page to listen to it all.

    make demo                       or: python scripts/demo.py [--help]
    make demo FOLDER=~/my-sounds    the same on sounds of your own

It runs the commands that a musician would type, and prints them. What an earlier run left is used again.
"""

import argparse
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import time
import typing as tp
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from demo_page import Clip, Page, Section, copied_text, measures_table, write_page  # noqa: E402

from audiocraft.environment import share_cores  # noqa: E402
from audiocraft.errors import UserError  # noqa: E402
from audiocraft.utils.tables import cell  # noqa: E402

if tp.TYPE_CHECKING:
    from omegaconf import DictConfig

    from audiocraft.train import RunResult

Takes = list[tuple[Path, dict[str, tp.Any]]]

EXCERPT_SECONDS = 10.0
PROMPT_SECONDS = 4.0
TUNED_SECONDS = 60.0  # less material than that tells nothing about sampling
TAKES = 16
STEPS = 6
SHIPPED = "//pretrained/jungle_pico"
SEED = 100  # of the material: none of the sets that the shipped model heard
# Sized for two cores: an epoch is half a minute, and a page full of losses is worth more than the last few steps.
OVERRIDES = (
    "dataset.num_workers=0",
    "dataset.valid.num_samples=12",
    "optim.updates_per_epoch=20",
    "generate.every=null",
)
# The model that ships knows such jungle: a third of the usual rates of fine-tuning keep its beat (docs/TRAINING.md).
KNOWN_MATERIAL = ("optim.lr=3e-4", "optim.muon.lr=6e-4")


class Demo:
    """The steps of the demo, in order, and what they know of each other."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.out: Path = args.out or Path("outputs", f"demo_{args.folder.resolve().name}" if args.folder else "demo")
        self.commands: list[str] = []
        self.step_number = 0

    def run(self) -> Path:
        """All steps. Returns the page."""
        begin = time.monotonic()
        own = self.args.folder
        self._step(f"Listening to {own}" if own else f"Making {self.args.minutes:g} minutes of jungle")
        material = own or self._make_material()
        self._step("Training on it")
        result = self._train(material)
        manifests = _manifests(result)
        self._step("Choosing how to play")
        model = self._tune(result, manifests[0])
        self._step("Playing")
        free = self._generate(model, "takes", "--num", str(TAKES))
        train, held_out = (_durations(manifest) for manifest in manifests)
        prompts, given = [], PROMPT_SECONDS
        for name, files in (("held_out", held_out), ("train", train)):
            longest = max(files, key=lambda path: files[path])
            prompts.append(self._excerpt(longest, name, 16.0))
            given = min(given, files[longest] / 2)
        options = ("--num", "2", "--prompt-duration", f"{given:g}", "--prompt")
        continued = [self._generate(model, f"continued_{prompt.stem}", *options, str(prompt)) for prompt in prompts]
        self._step("Measuring")
        measured = self._measure(free, model, manifests)
        self._step("Writing the page")
        excerpts = [(path, self._excerpt(path, f"train_{i}", 30.0)) for i, path in enumerate(list(train)[:3])]
        page = self.out / "index.html"
        minutes = sum(train.values()) / 60
        write_page(self._page(result, model, minutes, excerpts, prompts, given, free, continued, measured), page)
        print(f"\nDone in {(time.monotonic() - begin) / 60:.1f} min. Listen: {page.resolve().as_uri()}")
        return page

    def _step(self, text: str) -> None:
        self.step_number += 1
        print(f"\n== {self.step_number}/{STEPS} {text}", flush=True)

    def _say(self, arguments: tp.Sequence[str]) -> None:
        command = shlex.join(["python", *arguments])
        self.commands.append(command)
        print(f"$ {command}", flush=True)

    def _command(self, *arguments: str) -> tp.Any:
        """Run `python -m audiocraft …` in this process, which has everything imported already."""
        from audiocraft.cli import app

        self._say(["-m", "audiocraft", *arguments])
        return app(list(arguments), standalone_mode=False)

    def _unless_made(self, what: Path, weights: str, *arguments: str) -> None:
        """Run a command that makes a file or folder, unless it is there and was made so, of these very weights."""
        from audiocraft.utils.files import write_text

        notes, made = what.with_name(f"{what.name}.made"), json.dumps({"weights": weights, "arguments": arguments})
        if what.exists() and notes.is_file() and notes.read_text(encoding="utf-8") == made:
            self._say(["-m", "audiocraft", *arguments])
            print(f"already there: {what}")
            return
        self._command(*arguments)
        write_text(notes, made)

    def _make_material(self) -> Path:
        folder = self.out / "jungle"
        script = ["scripts/make_jungle.py", str(folder), "--minutes", f"{self.args.minutes:g}", "--bpm", "160"]
        script += ["--seed", str(SEED)]
        self._say(script)
        done = subprocess.run([sys.executable, str(ROOT / script[0]), *script[1:]], check=False)
        if done.returncode:
            raise UserError("the material could not be made (see above); mend that and run the demo again")
        return folder

    def _train(self, material: Path) -> "RunResult":
        from audiocraft.train import RunResult

        begin = ["--scale", self.args.scale] if self.args.start == "none" else ["--from", self.args.start]
        codec = ["--codec", self.args.codec] if self.args.codec else []
        gentle = KNOWN_MATERIAL if self.args.start == SHIPPED and not self.args.folder else ()
        overrides = self.args.overrides or (*OVERRIDES, *gentle)
        result = self._command(*("train", str(material), *begin, *codec, "--epochs", str(self.args.epochs), *overrides))
        if not (isinstance(result, RunResult) and result.finished):
            raise UserError("training was stopped; the same command goes on from there")
        return result

    def _tune(self, result: "RunResult", material: Path) -> Path:
        """The model with the settings with which it comes nearest to its material."""
        from audiocraft.checkpoints.weights import fingerprint

        folder, run = self.out / "model", result.sig
        weights = fingerprint(result.folder / "checkpoint.th")
        seconds = sum(_durations(material).values())
        command = ["tune", run, "--against", _short(material), "--duration", f"{EXCERPT_SECONDS:g}", "--num", "16"]
        if seconds < TUNED_SECONDS:
            print(f"{seconds:.0f} s of material are too little to choose by; the usual settings are kept")
            command = ["export", run]
        self._unless_made(folder, weights, *command, "--out", str(folder), "--replace")
        return folder

    def _generate(self, model: Path, name: str, *options: str) -> Takes:
        """Takes of this very model, in a folder of their own; made now if they are not there."""
        from audiocraft.checkpoints.locate import find_lm
        from audiocraft.checkpoints.weights import fingerprint
        from audiocraft.commands.takes import load_takes

        weights = fingerprint(find_lm(model))
        folder = self.out / f"{name}_{weights}"
        if not folder.with_name(f"{folder.name}.made").exists():
            shutil.rmtree(folder, ignore_errors=True)  # some of them, of a demo that was stopped
        arguments = ["generate", str(model), "--duration", f"{EXCERPT_SECONDS:g}", "--seed", "7", *options]
        self._unless_made(folder, weights, *arguments, "--out", str(folder))
        return load_takes(folder)

    def _measure(self, takes: Takes, model: Path, manifests: tuple[Path, Path]) -> dict[str, tp.Any]:
        """What `sound` says of the takes beside what was trained on and what was held out."""
        record, figure = self.out / "sound.json", self.out / "sound.png"
        command = ["sound", str(takes[0][0].parent), "--against", _short(manifests[0]), "--codec", str(model)]
        if _durations(manifests[0]) != _durations(manifests[1]):  # a single file is both
            command += ["--held-out", _short(manifests[1])]
        command += ["--json", str(record), "--figure", str(figure)]
        self._unless_made(record, takes[0][1]["model_fingerprint"], *command)
        return json.loads(record.read_text(encoding="utf-8"))["groups"]

    def _excerpt(self, track: Path, name: str, start: float) -> Path:
        """Some seconds of a track, as a file of the page."""
        from audiocraft.data.audio import audio_info, audio_read, audio_write

        path = self.out / "clips" / f"{name}.wav"
        start = max(0.0, min(start, audio_info(track).duration - EXCERPT_SECONDS))
        wav, sample_rate = audio_read(track, seek_time=start, duration=EXCERPT_SECONDS)
        return audio_write(path.with_suffix(""), wav, sample_rate, normalize=False, strategy="clip", log_clipping=False)

    def _codec_round_trip(self, excerpt: Path, model: Path) -> Path:
        """The excerpt coded and decoded: the best that a model which speaks these codes can sound."""
        import torch

        from audiocraft.data.audio import audio_read, audio_write
        from audiocraft.data.audio_utils import convert_audio
        from audiocraft.models.loaders import load_compression_model

        codec = load_compression_model(model)
        wav = convert_audio(*audio_read(excerpt), codec.sample_rate, codec.channels)
        with torch.no_grad():
            decoded = codec(wav[None]).x[0]
        stem = excerpt.with_name(f"{excerpt.stem}_coded")
        return audio_write(stem, decoded, codec.sample_rate, normalize=False, strategy="clip", log_clipping=False)

    def _page(
        self,
        result: "RunResult",
        model: Path,
        minutes: float,
        excerpts: list[tuple[Path, Path]],
        prompts: list[Path],
        given: float,
        free: Takes,
        continued: list[Takes],
        measured: dict[str, tp.Any],
    ) -> Page:
        from audiocraft.checkpoints.configs import package_config
        from audiocraft.models.loaders import load_lm_model_ckpt

        history = json.loads((result.folder / "history.json").read_text(encoding="utf-8"))
        package = load_lm_model_ckpt(model)
        cfg = package_config(package, model)
        parameters = sum(value.numel() for value in package["best_state"].values())
        curves = {
            label: [(i + 1.0, epoch[stage]["ce"]) for i, epoch in enumerate(history) if stage in epoch]
            for label, stage in (("training", "train"), ("held out", "valid"))
        }
        held = curves["held out"]
        seconds = sum(stage.get("duration", 0.0) for epoch in history for stage in epoch.values())
        beats = [cell(measured[group]["median"]["beat"]) for group in ("takes", "material")]
        guess = math.log(cfg.transformer_lm.card)
        of = "jungle" if self.args.folder is None else self.args.folder.resolve().name
        begin = "from scratch" if self.args.start == "none" else f"beginning with {self.args.start.split('/')[-1]},"
        sounds = "synthesised breakbeats" if self.args.folder is None else "your sounds"
        names = ("a track it never heard", "a track it trained on")
        return Page(
            title=f"A micro model learns {of}",
            intro=f"A MusicGen of {parameters / 1e6:.1f} M parameters, trained {begin} on {minutes:.0f} minutes of "
            f"{sounds}, without any conditioning. It is undertrained on purpose: listen for raw material, not for "
            "finished tracks.",
            headline=[
                (f"{seconds / 60:.1f} min", "of training"),
                (f"{parameters / 1e6:.1f} M", "parameters"),
                (f"{held[0][1]:.2f} → {held[-1][1]:.2f}", "loss on held-out tracks"),
                (f"{beats[0]} of {beats[1]}", "beat, takes and material"),
            ],
            curves=curves,
            curve_text=f"Cross-entropy per code, in nats. Guessing among {cfg.transformer_lm.card} codes costs "
            f"{guess:.2f}. Held out are whole tracks that were never trained on.",
            sections=[
                Section(
                    "From nothing",
                    "Free samples: no prompt, one seed each, none left out.",
                    [Clip(f"Seed {facts['seed']}", path, _small_print(facts)) for path, facts in free],
                ),
                Section(
                    "How near it comes",
                    copied_text(measured),
                    table=measures_table(measured),
                    picture=self.out / "sound.png",
                ),
                Section(
                    "Continuations",
                    f"The first {given:g} s are given, the rest is the model's.",
                    [
                        Clip(f"After {name}, seed {facts['seed']}", path, _small_print(facts), given)
                        for name, takes in zip(names, continued)
                        for path, facts in takes
                    ],
                ),
                Section(
                    "What it learned from",
                    "Excerpts of the training tracks"
                    + (", made by synthesis alone." if self.args.folder is None else "."),
                    [
                        Clip(f"Training track {i + 1}", path, _track_facts(track))
                        for i, (track, path) in enumerate(excerpts)
                    ],
                ),
                Section(
                    "What the codec leaves of it",
                    "The model speaks the codec's codes; nothing it says can sound better than a track that only went "
                    "through the codec and back.",
                    [
                        Clip("A held-out track", prompts[0]),
                        Clip("The same through the codec", self._codec_round_trip(prompts[0], model)),
                    ],
                ),
            ],
            parameters=_parameter_table(cfg, package, result, history, parameters),
            commands=self.commands,
        )


def _manifests(result: "RunResult") -> tuple[Path, Path]:
    """What the run trained on and what it held out."""
    from audiocraft.checkpoints.checkpoint import load_checkpoint
    from audiocraft.checkpoints.configs import package_config
    from audiocraft.data.manifest import find_manifest

    path = result.folder / "checkpoint.th"
    source = package_config(load_checkpoint(path), path).datasource
    return find_manifest(source.train), find_manifest(source.valid)


def _durations(manifest: Path) -> dict[Path, float]:
    """Seconds of each file that it lists."""
    from audiocraft.data.manifest import load_audio_meta

    return {Path(meta.path): meta.duration for meta in load_audio_meta(manifest)}


def _short(path: Path) -> str:
    """The path as one would type it here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _track_facts(track: Path) -> str:
    """What the JSON beside a track of the made material says about it."""
    notes = track.with_suffix(".json")
    try:
        facts = json.loads(notes.read_text(encoding="utf-8"))
        return f"{track.name} · {facts['bpm']:g} BPM · {facts['key']}"
    except (OSError, ValueError, KeyError, TypeError):
        return track.name


def _small_print(facts: dict[str, tp.Any]) -> str:
    settings = facts["settings"]
    return f"{facts['file']} · temperature {settings['temperature']:g} · top-k {settings['top_k']}"


def _parameter_table(
    cfg: "DictConfig", package: tp.Mapping[str, tp.Any], result: "RunResult", history: list[tp.Any], parameters: int
) -> list[tuple[str, str]]:
    import torch

    lm, optim = cfg.transformer_lm, cfg.optim
    steps = optim.updates_per_epoch * len(history)
    seconds = sum(epoch["train"].get("duration", 0.0) for epoch in history if "train" in epoch)
    return [
        ("model", f"{lm.num_layers} layers, {lm.num_heads} heads, width {lm.dim}; {parameters:,} parameters"),
        ("codec", f"{cfg.compression_model_checkpoint}: {lm.n_q} codebooks of {lm.card}, {cfg.sample_rate} Hz mono"),
        ("segments", f"{cfg.dataset.segment_duration:g} s, {cfg.dataset.batch_size} at a time"),
        ("training", f"{len(history)} epochs of {optim.updates_per_epoch} steps, {seconds / max(1, steps):.2f} s each"),
        ("optimizer", f"{optim.optimizer}, rate {optim.lr:g}, {cfg.schedule.lr_scheduler} schedule"),
        ("weights", "running average of the last steps"),
        ("run", f"{result.sig} in {result.folder}"),
        ("software", f"micro-musicgen {package['version']}, torch {torch.__version__}, on {platform_name()}"),
    ]


def platform_name() -> str:
    """The machine in a few words: what computed, and how many cores there are."""
    import platform

    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    return f"{device} ({platform.machine()}, Python {platform.python_version()})"


def parse_args(argv: tp.Sequence[str] | None) -> argparse.Namespace:
    """The demo's options. The defaults are sized for two cores."""
    parser = argparse.ArgumentParser(prog="scripts/demo.py", description="From nothing to sound in one go.")
    parser.add_argument("--out", type=Path, help="folder for all of it (outputs/demo, or demo_FOLDER)")
    parser.add_argument("--folder", type=Path, help="learn from this audio, in place of jungle made for it")
    parser.add_argument("--minutes", type=float, default=12.0, help="minutes of jungle (%(default)s)")
    parser.add_argument(
        "--from", dest="start", default=SHIPPED, metavar="MODEL", help="begin with it (%(default)s); none: from scratch"
    )
    parser.add_argument("--scale", default="pico", help="size of a model from scratch (%(default)s)")
    parser.add_argument("--epochs", type=int, default=4, help="(%(default)s)")
    parser.add_argument("--codec", default=None, help="another codec than the one that ships")
    parser.add_argument("overrides", nargs="*", help="keys of the configuration, in place of the demo's own")
    return parser.parse_args(argv)


def main(argv: tp.Sequence[str] | None = None) -> int:
    """Run the demo. Returns the exit status."""
    share_cores()
    try:
        Demo(parse_args(argv)).run()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; make demo goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
