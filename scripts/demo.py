"""From nothing to sound in one go: material, a tiny model trained on it, its music, and a page to listen to it all.

    make demo          or: python scripts/demo.py [--help]

It runs the commands that a musician would type, and prints them. What an earlier run left is used again.
"""

import argparse
import json
import math
import shlex
import subprocess
import sys
import time
import typing as tp
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from demo_page import Clip, Page, Section, write_page  # noqa: E402

from audiocraft.environment import share_cores  # noqa: E402
from audiocraft.errors import UserError  # noqa: E402

if tp.TYPE_CHECKING:
    from omegaconf import DictConfig

    from audiocraft.train import RunResult

EXCERPT_SECONDS = 10.0
PROMPT_SECONDS = 4.0
STEPS = 5


class Demo:
    """The steps of the demo, in order, and what they know of each other."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.out: Path = args.out
        self.commands: list[str] = []
        self.step_number = 0

    def run(self) -> Path:
        """All steps. Returns the page."""
        begin = time.monotonic()
        self._step(f"Making {self.args.minutes:g} minutes of jungle")
        material = self._make_material()
        self._step("Training on it")
        result = self._train(material)
        self._step("Exporting the model")
        model = self._export(result)
        self._step("Playing")
        free = self._generate(model, self.out / "takes", ["--num", "4", "--seed", "7"])
        train, held_out = _split(result)
        prompts = [self._excerpt(held_out[0], "held_out", 16.0), self._excerpt(train[0], "train", 16.0)]
        continued = [
            self._generate(
                model,
                self.out / f"continued_{prompt.stem}",
                ["--num", "2", "--seed", "7", "--prompt", str(prompt), "--prompt-duration", f"{PROMPT_SECONDS:g}"],
            )
            for prompt in prompts
        ]
        self._step("Writing the page")
        excerpts = [(path, self._excerpt(path, f"train_{i}", 30.0)) for i, path in enumerate(train[:3])]
        page = self.out / "index.html"
        write_page(self._page(result, model, excerpts, prompts, free, continued), page)
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

    def _make_material(self) -> Path:
        folder = self.out / "jungle"
        script = ["scripts/make_jungle.py", str(folder), "--minutes", f"{self.args.minutes:g}", "--seed", "0"]
        self._say(script)
        done = subprocess.run([sys.executable, str(ROOT / script[0]), *script[1:]], check=False)
        if done.returncode:
            raise UserError("the material could not be made (see above); mend that and run the demo again")
        return folder

    def _train(self, material: Path) -> "RunResult":
        from audiocraft.train import RunResult

        codec = ["--codec", self.args.codec] if self.args.codec else []
        result = self._command(
            *("train", str(material), "--scale", self.args.scale, "--epochs", str(self.args.epochs), *codec),
            *self.args.overrides,
        )
        if not (isinstance(result, RunResult) and result.finished):
            raise UserError("training was stopped; the same command goes on from there")
        return result

    def _export(self, result: "RunResult") -> Path:
        folder = self.out / "model"
        self._command("export", result.sig, "--out", str(folder), "--replace")
        return folder

    def _generate(self, model: Path, folder: Path, options: list[str]) -> list[tuple[Path, dict[str, tp.Any]]]:
        """Takes of this very model made with these very options; made now if they are not there."""
        from audiocraft.checkpoints.locate import find_lm
        from audiocraft.checkpoints.weights import fingerprint
        from audiocraft.commands.takes import load_takes
        from audiocraft.utils.files import atomic_path

        weights = fingerprint(find_lm(model))
        arguments = ["generate", str(model), "--duration", f"{EXCERPT_SECONDS:g}", *options, "--out", str(folder)]
        notes = folder / "made.json"
        made = {"weights": weights, "arguments": arguments}
        fresh = [take for take in load_takes(folder) if take[1].get("model_fingerprint") == weights]
        if fresh and notes.is_file() and notes.read_text(encoding="utf-8") == json.dumps(made):
            self._say(["-m", "audiocraft", *arguments])
            print(f"already there: {len(fresh)} takes in {folder}")
            return fresh
        before = len(load_takes(folder))
        self._command(*arguments)
        with atomic_path(notes) as temporary:
            temporary.write_text(json.dumps(made), encoding="utf-8")
        return load_takes(folder)[before:]

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
        excerpts: list[tuple[Path, Path]],
        prompts: list[Path],
        free: list[tuple[Path, dict[str, tp.Any]]],
        continued: list[list[tuple[Path, dict[str, tp.Any]]]],
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
        guess = math.log(cfg.transformer_lm.card)
        names = ("a track it never heard", "a track it trained on")
        return Page(
            title="A micro model learns jungle",
            intro=f"A MusicGen of {parameters / 1e6:.1f} M parameters, trained from scratch on "
            f"{self.args.minutes:g} minutes of synthesised breakbeats, without any conditioning. It is undertrained on "
            "purpose: listen for raw material, not for finished tracks.",
            headline=[
                (f"{seconds / 60:.1f} min", "of training"),
                (f"{parameters / 1e6:.1f} M", "parameters"),
                (f"{held[0][1]:.2f} → {held[-1][1]:.2f}", "loss on held-out tracks"),
                (f"{self.args.minutes:g} min", "of material"),
            ],
            curves=curves,
            curve_text=f"Cross-entropy per code, in nats. Guessing among {cfg.transformer_lm.card} codes costs "
            f"{guess:.2f}. Held out are whole tracks that were never trained on.",
            sections=[
                Section(
                    "What it learned from",
                    "Excerpts of the training tracks, made by synthesis alone.",
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
                Section(
                    "From nothing",
                    "Free samples: no prompt, one seed each.",
                    [Clip(f"Seed {facts['seed']}", path, _small_print(facts)) for path, facts in free],
                ),
                Section(
                    "Continuations",
                    f"The first {PROMPT_SECONDS:g} s are given, the rest is the model's.",
                    [
                        Clip(f"After {name}, seed {facts['seed']}", path, _small_print(facts), PROMPT_SECONDS)
                        for name, takes in zip(names, continued)
                        for path, facts in takes
                    ],
                ),
            ],
            parameters=_parameter_table(cfg, package["version"], result, history, self.args, parameters),
            commands=self.commands,
        )


def _split(result: "RunResult") -> tuple[list[Path], list[Path]]:
    """The tracks that the run trained on and those it held out, from its manifests."""
    from audiocraft.checkpoints.checkpoint import load_checkpoint
    from audiocraft.checkpoints.configs import package_config
    from audiocraft.data.audio_dataset import load_audio_meta

    path = result.folder / "checkpoint.th"
    source = package_config(load_checkpoint(path), path).datasource
    train, valid = ([Path(meta.path) for meta in load_audio_meta(source[split])] for split in ("train", "valid"))
    return train, valid


def _track_facts(track: Path) -> str:
    """What the JSON beside a track of the material says about it."""
    notes = track.with_suffix(".json")
    if not notes.is_file():
        return track.name
    facts = json.loads(notes.read_text(encoding="utf-8"))
    return f"{track.name} · {facts['bpm']:g} BPM · {facts['key']}"


def _small_print(facts: dict[str, tp.Any]) -> str:
    settings = facts["settings"]
    return f"{facts['file']} · temperature {settings['temperature']:g} · top-k {settings['top_k']}"


def _parameter_table(
    cfg: "DictConfig",
    version: str,
    result: "RunResult",
    history: list[dict[str, tp.Any]],
    args: argparse.Namespace,
    parameters: int,
) -> list[tuple[str, str]]:
    import torch

    lm, optim = cfg.transformer_lm, cfg.optim
    steps = optim.updates_per_epoch * len(history)
    seconds = sum(epoch["train"].get("duration", 0.0) for epoch in history if "train" in epoch)
    return [
        (
            "model",
            f"{args.scale}: {lm.num_layers} layers, {lm.num_heads} heads, width {lm.dim}; {parameters:,} parameters",
        ),
        ("codec", f"{cfg.compression_model_checkpoint}: {lm.n_q} codebooks of {lm.card}, {cfg.sample_rate} Hz mono"),
        ("material", f"{args.minutes:g} min by scripts/make_jungle.py, seed 0; a tenth of the tracks held out"),
        ("segments", f"{cfg.dataset.segment_duration:g} s, {cfg.dataset.batch_size} at a time"),
        ("training", f"{len(history)} epochs of {optim.updates_per_epoch} steps, {seconds / max(1, steps):.2f} s each"),
        ("optimizer", f"{optim.optimizer}, rate {optim.lr:g}, {cfg.schedule.lr_scheduler} schedule"),
        ("weights", "running average of the last steps"),
        ("run", f"{result.sig} in {result.folder}"),
        ("software", f"micro-musicgen {version}, torch {torch.__version__}, on {platform_name()}"),
    ]


def platform_name() -> str:
    """The machine in a few words: what computed, and how many cores there are."""
    import os
    import platform

    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    return f"{device} ({platform.machine()}, Python {platform.python_version()})"


def parse_args(argv: tp.Sequence[str] | None) -> argparse.Namespace:
    """The demo's options. The defaults are sized for two cores."""
    parser = argparse.ArgumentParser(prog="scripts/demo.py", description="From nothing to sound in one go.")
    parser.add_argument("--out", type=Path, default=Path("outputs/demo"), help="folder for all of it (%(default)s)")
    parser.add_argument("--minutes", type=float, default=40.0, help="minutes of material (%(default)s)")
    parser.add_argument("--scale", default="pico", help="size of the model (%(default)s)")
    parser.add_argument("--epochs", type=int, default=12, help="(%(default)s)")
    parser.add_argument("--codec", default=None, help="another codec than the one that ships")
    parser.add_argument("overrides", nargs="*", help="keys of the configuration, in place of the demo's own")
    args = parser.parse_args(argv)
    args.overrides = args.overrides or list(DEMO_OVERRIDES)
    return args


# Sized for two cores: steps of well under a second each.
DEMO_OVERRIDES = (
    "dataset.batch_size=4",
    "dataset.num_workers=0",
    "dataset.valid.num_samples=12",
    "optim.updates_per_epoch=50",
    "transformer_lm.dropout=0.1",
    "schedule.cosine.warmup=50",
    "optim.ema.decay=0.99",
    "generate.every=null",
)


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
