"""What `play` does not measure: import, material, long files, `generate`, memory by length, 8-bit weights."""

import sys
import tempfile
from pathlib import Path

from . import ROOT
from .process import audiocraft, call, measured, run, spread
from .weights import find_model

IMPORT_MUSICGEN = (
    "import time; a = time.perf_counter(); import torch; b = time.perf_counter(); "
    "from audiocraft.models import MusicGen; c = time.perf_counter(); print(b - a, c - b)"
)
IMPORT_PACKAGE = (
    "import sys, time; a = time.perf_counter(); import audiocraft; b = time.perf_counter(); "
    "assert 'torch' not in sys.modules and 'numpy' not in sys.modules; print(b - a)"
)


def bench_import(runs: int) -> dict:
    """Seconds of `import audiocraft`, and of MusicGen beyond `import torch`."""
    run([sys.executable, "-c", IMPORT_MUSICGEN])  # fills the bytecode and disk caches
    package = [float(run([sys.executable, "-c", IMPORT_PACKAGE]).printed) for _ in range(runs)]
    pairs = [list(map(float, run([sys.executable, "-c", IMPORT_MUSICGEN]).printed.split())) for _ in range(runs)]
    return {
        "import audiocraft, s": spread(package),
        "import torch, s": spread([torch_s for torch_s, _ in pairs]),
        "from audiocraft.models import MusicGen beyond torch, s": spread([ours for _, ours in pairs]),
    }


def bench_material(minutes: float) -> dict:
    """CPU and wall seconds of some minutes of made-up jungle."""
    with tempfile.TemporaryDirectory() as folder:
        script = str(ROOT / "scripts/make_jungle.py")
        done = run([sys.executable, script, folder, "--minutes", str(minutes), "--seed", "0"])
    return {
        f"{minutes:g} minutes of jungle, s": {"wall": round(done.wall_s, 1), "cpu": round(done.cpu_s, 1)},
        "peak, MiB": round(done.peak_mib),
    }


def bench_long_file(codec: str, minutes: float) -> dict:
    """Seconds and peak memory of coding a long file in one call each way."""
    seconds, figures = int(minutes * 60), {}
    with tempfile.TemporaryDirectory() as folder:
        for way in ("encode", "decode"):
            done = call(f"house.{way}", name=codec, seconds=seconds, codes=f"{folder}/codes.npy")
            figures[way] = {"s": round(done.wall_s, 1), "peak, MiB": round(done.peak_mib)}
    return {"codec": codec, "minutes": minutes, **figures}


def encode(name: str, seconds: int, codes: str) -> None:
    """Code a second of noise again and again, in one call, and keep the codes."""
    import numpy as np
    import torch

    from audiocraft.models.loaders import load_compression_model

    codec = load_compression_model(name)
    second = np.random.default_rng(0).uniform(-0.5, 0.5, codec.sample_rate).astype("float32")
    with torch.no_grad():
        coded, _ = codec.encode(torch.from_numpy(second).repeat(seconds)[None, None])
    np.save(codes, coded.numpy().astype("int16"))


def decode(name: str, seconds: int, codes: str) -> None:
    """Make sound of what `encode` kept, in one call."""
    import numpy as np
    import torch

    from audiocraft.models.loaders import load_compression_model

    codec = load_compression_model(name)
    with torch.no_grad():
        wav = codec.decode(torch.from_numpy(np.load(codes).astype("int64")))
    assert wav.shape[-1] == seconds * codec.sample_rate, wav.shape


def bench_boot(model: str, runs: int, seconds: float) -> dict:
    """Wall seconds from process start to the end of `generate`, which is after its audio is written."""
    walls, memory = [], 0.0
    for index in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            done = audiocraft(*("generate", model, "--duration", seconds, "--num", 1, "--seed", index, "--out", folder))
        walls.append(done.wall_s)
        memory = max(memory, done.peak_mib)
    return {"model": model, f"start to {seconds:g} s on disk, s": spread(walls), "peak, MiB": round(memory)}


def bench_memory(model: str, seconds: list[float]) -> dict:
    """Peak memory of `generate` and `stream` at several lengths; the sound itself takes 4 bytes a sample."""
    figures: dict = {"model": model}
    for command in ("generate", "stream"):
        for length in seconds:
            with tempfile.TemporaryDirectory() as folder:
                more = ["--num", 1, "--out", folder] if command == "generate" else ["--out", f"{folder}/stream.wav"]
                done = audiocraft(command, model, *more, "--duration", length, "--seed", 0)
            figures[f"{command}, {length:g} s"] = {"peak, MiB": round(done.peak_mib), "s": round(done.wall_s, 1)}
    return figures


def bench_divergence(model: str, seconds: float) -> dict:
    """KL of what is expected next, nats per code, with 8-bit weights against float32; per engine."""
    path = find_model(model, "random", Path("outputs/bench/weights")).path
    engines = measured("divergence.measure", path=path, seconds=seconds)
    return {
        "model": model,
        **{engine: {name: float(f"{value:.3g}") for name, value in kl.items()} for engine, kl in engines.items()},
    }
