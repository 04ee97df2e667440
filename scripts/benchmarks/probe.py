"""One cold start with torch, phase by phase; `play.py` runs it as a process of its own.

    python -m benchmarks.probe MODEL OUT [--batch 1] [--seconds 10] [--device cpu] [--precision auto] [--first]

Prints a JSON line: seconds from before the process started to the end of each phase, the seconds of a second call in
the same process, peak memory. With `--first` it streams instead, and ends as soon as the first sound is there.
"""

import argparse
import json
import os
import sys
import time
import typing as tp
from pathlib import Path

from .process import START_VARIABLE

TEXT = "a fast drum break with a deep bass line, dark and dusty"
# Whoever has waited this long in the first call learns little from a second one.
WARM_LIMIT_S = 12.0


def main() -> None:
    """Parse the command line, measure, print."""
    start = float(os.environ.get(START_VARIABLE) or time.monotonic())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out", type=Path, help="folder for the clips")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto", help="auto is what the commands take on that device")
    parser.add_argument("--first", action="store_true", help="stream, and stop at the first sound")
    options = parser.parse_args()

    from audiocraft.environment import share_cores

    share_cores()
    from audiocraft.models import MusicGen

    probe = Probe(options, start)
    probe.mark("imports")
    probe.load(MusicGen)
    if options.first:
        probe.stream()
    else:
        probe.generate()
    print(json.dumps(probe.record))


class Probe:
    """The phases, in order, and what was measured of them."""

    def __init__(self, options: argparse.Namespace, start: float) -> None:
        self.options = options
        self.start = start
        self.record: dict[str, tp.Any] = {}

    def mark(self, phase: str) -> None:
        """Write down that a phase ends now."""
        self.record[phase] = round(time.monotonic() - self.start, 4)

    def load(self, musicgen: tp.Any) -> None:
        """Weights, and the text encoder of a model that has one: it would else be loaded by the first text."""
        from audiocraft.modules.conditioners import ConditioningAttributes

        from .facts import synchronize

        options = self.options
        self.model = musicgen.get_pretrained(options.model, options.device, precision=options.precision)
        self.model.set_generation_params(duration=options.seconds)
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
        batch = self.options.batch
        if self.text:
            return self.model.generate([self.text] * batch, seed=seed)
        return self.model.generate_unconditional(batch, seed=seed)

    def _write(self, wavs: tp.Any) -> None:
        from audiocraft.data.audio import audio_write

        for index, wav in enumerate(wavs.cpu()):
            audio_write(self.options.out / f"clip{index}", wav, self.model.sample_rate, strategy="clip")

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


if __name__ == "__main__":
    from audiocraft.errors import UserError

    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
