"""Ways to play a model: torch in the precision its commands take by default or in float32, and the ONNX player."""

import json
import sys
import typing as tp
from pathlib import Path

from .probe import WARM_LIMIT_S
from .process import ProcessFailed, audiocraft, measured, run
from .record import commit
from .weights import Source

ENGINES = ("torch", "torch-float32", "player-int8", "player-float32")
DEFAULT_ENGINES = ("torch-float32", "torch", "player-int8")
# What the peer computes in, to compare like with like; where nobody asked for it, with the fewest clips only.
SLOW_ENGINE = "torch-float32"
# What a player's folder was exported by; another commit exports it again.
_EXPORTED = "bench.json"


class Engine:
    """One way to play one model on one device.

    Args:
        name: one of `ENGINES`.
        model: what to play.
        device: where torch computes; the player is for the CPU.
        folder: where exports for the player are kept.
    """

    def __init__(self, name: str, model: Source, device: str, folder: Path) -> None:
        self.name = name
        self.model = model
        self.device = device
        self.folder = folder
        self.is_player = name.startswith("player")
        self.precision = name.partition("-")[2] or "auto"

    def prepare(self) -> None:
        """Make ready what the engine needs.

        Raises:
            ProcessFailed: it cannot be made, and why.
        """
        if not self.is_player:
            return
        if self.device not in ("cpu", "auto"):
            raise ProcessFailed("the player computes on the CPU only")
        self.folder = self.folder / f"{self.model.name}-{self.model.weights.replace(' ', '-')}-onnx-{self.precision}"
        note = {"model": self.model.path, "commit": commit()}
        path = self.folder / _EXPORTED
        if path.is_file() and json.loads(path.read_text()) == note and not note["commit"].endswith("dirty"):
            return
        quantize = "none" if self.precision == "float32" else self.precision
        options = ("--format", "onnx", "--quantize", quantize, "--out", self.folder, "--replace")
        audiocraft("export", self.model.path, *options)
        path.write_text(json.dumps(note))

    def whole(self, batch: int, seconds: float, out: Path) -> dict[str, tp.Any]:
        """From a cold start to clips on disk, in a process of its own.

        Args:
            batch: clips at once.
            seconds: of each.
            out: folder for the clips.
        Returns:
            `phases`: the seconds that imports, load, lm, decode and write took; `first_audio` (the player's) and
            `total` seconds from the start; `warm`, `peak_mib`, `vram_mib`, `precision` where they were measured.
        The player makes sound while it draws codes: its `lm` and `decode` are what each took of that.

        Raises:
            ProcessFailed: the process did not end well.
        """
        told = self._player(batch, seconds, out) if self.is_player else self._probe(batch, seconds, out)
        phases = {"imports": told["imports"]}
        for before, phase in zip(("imports", "load", "lm"), ("load", "lm", "decode")):
            phases[phase] = told[phase] - told[before]
        phases["write"] = told["total"] - told["decode"]
        kept = ("first_audio", "total", "warm", "peak_mib", "vram_mib", "precision", "device", "text_tokens")
        rounded = {phase: round(value, 4) for phase, value in phases.items()}
        return {"phases": rounded, **{key: told[key] for key in kept if key in told}}

    def first(self, seconds: float, out: Path) -> dict[str, tp.Any] | None:
        """To the first sound of a stream, in a process of its own; None where `whole` measures it on its way."""
        if self.is_player:
            return None
        return self._probe(1, seconds, out, first=True)

    def _probe(self, batch: int, seconds: float, out: Path, first: bool = False) -> dict[str, tp.Any]:
        how = {"model": self.model.path, "device": self.device, "precision": self.precision, "first": first}
        return measured("probe.cold_start", out=out, batch=batch, seconds=seconds, **how)

    def _player(self, batch: int, seconds: float, out: Path) -> dict[str, tp.Any]:
        timings = out / "timings.json"
        files = (self.folder / "player.py", self.folder, "--out", out, "--timings", timings)
        clips = ("--num", batch, "--batch-size", batch, "--duration", seconds, "--seed", 0)
        run([sys.executable, *map(str, (*files, *clips))])
        told = {**json.loads(timings.read_text()), "precision": self.precision, "device": "cpu"}
        if told["total"] - told["load"] < WARM_LIMIT_S:
            told["warm"] = measured("probe.warm_player", folder=self.folder, batch=batch, seconds=seconds)
        return told
