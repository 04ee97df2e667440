"""One cold start with torch, phase by phase, and a second call of the ONNX player; each in a process of its own."""

import importlib
import os
import sys
import time
import typing as tp
from pathlib import Path

from .process import START_VARIABLE

TEXT = "a fast drum break with a deep bass line, dark and dusty"
# Whoever has waited this long in the first call learns little from a second one.
WARM_LIMIT_S = 12.0


def cold_start(
    model: str, out: str, batch: int, seconds: float, device: str, precision: str, first: bool
) -> dict[str, tp.Any]:
    """Seconds from before the process started to the end of each phase.

    Args:
        out: folder for the clips.
        precision: 'auto' is what the commands take on that device.
        first: stream, and stop as soon as the first sound is there.
    Returns:
        `imports`, `load`, `lm`, `decode`, `total`, or `first_audio`; `warm`, the seconds of a second call in the same
        process; peak memory; what it ran on.
    """
    start = float(os.environ.get(START_VARIABLE) or time.monotonic())
    from audiocraft.environment import share_cores

    share_cores()
    from audiocraft.models import MusicGen

    probe = Probe(start, Path(out), batch)
    probe.mark("imports")
    probe.load(MusicGen, model, seconds, device, precision)
    if first:
        probe.stream()
    else:
        probe.generate()
    return probe.record


class Probe:
    """The phases, in order, and what was measured of them."""

    def __init__(self, start: float, out: Path, batch: int) -> None:
        self.start, self.out, self.batch = start, out, batch
        self.record: dict[str, tp.Any] = {}

    def mark(self, phase: str) -> None:
        """Write down that a phase ends now."""
        self.record[phase] = round(time.monotonic() - self.start, 4)

    def load(self, musicgen: tp.Any, model: str, seconds: float, device: str, precision: str) -> None:
        """Weights, and the text encoder of a model that has one: it would else be loaded by the first text."""
        from audiocraft.modules.conditioners import ConditioningAttributes

        from .facts import synchronize

        self.model = musicgen.get_pretrained(model, device, precision=precision)
        self.model.set_generation_params(duration=seconds)
        provider = self.model.lm.condition_provider
        self.text = TEXT if provider.text_conditions else None
        if self.text:
            given = ConditioningAttributes(text=dict.fromkeys(provider.text_conditions, self.text))
            tokens = provider.tokenize([given])
            provider(tokens)
            self.record["text_tokens"] = max(int(t["input_ids"].shape[-1]) for t in tokens.values())
        self.synchronize = lambda: synchronize(self.model.device)
        self.synchronize()
        self.mark("load")
        self.record["precision"] = self.model.precision
        self.record["device"] = _device_name(self.model.device)

    def generate(self) -> None:
        """All clips from a cold start to files, then the same again in the warm process, without files."""
        decoded = self._watch_decoder()
        wavs = self._call(seed=0)
        self.record["lm"] = round(decoded["began"] - self.start, 4)
        self.record["decode"] = round(decoded["ended"] - self.start, 4)
        self._write(wavs)
        self.mark("total")
        self.record.update(_peaks(self.model.device))
        if self.record["decode"] - self.record["load"] < WARM_LIMIT_S:
            began = time.monotonic()
            self._call(seed=1000)
            self.record["warm"] = {
                "lm": round(decoded["began"] - began, 4),
                "decode": round(decoded["ended"] - decoded["began"], 4),
                "total": round(time.monotonic() - began, 4),
            }

    def stream(self) -> None:
        """The first chunk of sound."""
        chunk = next(iter(self.model.stream(descriptions=[self.text], seed=0)))
        self.synchronize()
        self.mark("first_audio")
        self.record["first_chunk_s"] = round(chunk.shape[-1] / self.model.sample_rate, 3)

    def _call(self, seed: int) -> tp.Any:
        if self.text:
            return self.model.generate([self.text] * self.batch, seed=seed)
        return self.model.generate_unconditional(self.batch, seed=seed)

    def _write(self, wavs: tp.Any) -> None:
        from audiocraft.data.audio import audio_write

        for index, wav in enumerate(wavs.cpu()):
            audio_write(self.out / f"clip{index}", wav, self.model.sample_rate, strategy="clip")

    def _watch_decoder(self) -> dict[str, float]:
        """When the last call turned from codes to sound, and when it had it."""
        seen: dict[str, float] = {}
        generate_audio = self.model.generate_audio

        def watched(codes: tp.Any) -> tp.Any:
            self.synchronize()
            seen["began"] = time.monotonic()
            wav = generate_audio(codes)
            self.synchronize()
            seen["ended"] = time.monotonic()
            return wav

        self.model.generate_audio = watched
        return seen


def _device_name(device: tp.Any) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _peaks(device: tp.Any) -> dict[str, float]:
    """MiB of memory at most, of the process and of the GPU."""
    import resource

    import torch

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    status = Path("/proc/self/status")
    if status.exists():  # of this program alone; the other figure begins with that of whoever started it
        peak = next(int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if "VmHWM" in line)
    peaks = {"peak_mib": round(peak, 1)}
    if device.type == "cuda":
        peaks["vram_mib"] = round(torch.cuda.max_memory_reserved(device) / 2**20, 1)
    elif device.type == "mps":
        peaks["vram_mib"] = round(torch.mps.driver_allocated_memory() / 2**20, 1)
    return peaks


def warm_player(folder: str, batch: int, seconds: float) -> dict[str, float]:
    """A second call of the ONNX player in one process (`player.py` as a program makes one only), the first a short one.

    Returns:
        Seconds of the language model, of the codec, and in all.
    """
    sys.path.insert(0, folder)  # where player.py finds its own parts
    engine: tp.Any = importlib.import_module("engine")
    generation: tp.Any = importlib.import_module("generation")
    player, sampling = engine.Player(Path(folder)), generation.Sampling()
    for length, seed in ((min(seconds, 1.0), 0), (seconds, 1000)):
        before, began = dict(player.clock.spent), time.perf_counter()
        for _ in player.play(batch, player.frames(length), seed, sampling):
            pass
        total = time.perf_counter() - began
    spent = {phase: round(spent - before.get(phase, 0.0), 4) for phase, spent in player.clock.spent.items()}
    return {**spent, "total": round(total, 4)}
