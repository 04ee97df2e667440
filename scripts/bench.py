"""Measure the numbers this project holds itself to, each in processes of its own.

    python scripts/bench.py import            import cost, beyond torch's own
    python scripts/bench.py material          making 10 minutes of jungle, CPU seconds of one core
    python scripts/bench.py long-file         coding a one-hour file: seconds and peak memory, encode and decode
    python scripts/bench.py boot MODEL        process start to 10 s of audio written

Every run prints a table and appends a line to outputs/bench.jsonl (commit, machine, settings, median, worst).
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

IMPORT_MUSICGEN = (
    "import time; a = time.perf_counter(); import torch; b = time.perf_counter(); "
    "from audiocraft.models import MusicGen; c = time.perf_counter(); print(b - a, c - b)"
)
IMPORT_PACKAGE = (
    "import sys, time; a = time.perf_counter(); import audiocraft; b = time.perf_counter(); "
    "assert 'torch' not in sys.modules and 'numpy' not in sys.modules; print(b - a)"
)
ENCODE_HOUR = """
import sys, numpy as np, torch
from audiocraft.models.loaders import load_compression_model
torch.set_grad_enabled(False)
codec = load_compression_model(sys.argv[1])
rng = np.random.default_rng(0)
second = torch.from_numpy(rng.uniform(-0.5, 0.5, codec.sample_rate).astype("float32"))
wav = second.repeat(int(sys.argv[2]))[None, None]
codes, _ = codec.encode(wav)
np.save(sys.argv[3], codes.numpy().astype("int16"))
"""
DECODE_HOUR = """
import sys, numpy as np, torch
from audiocraft.models.loaders import load_compression_model
torch.set_grad_enabled(False)
codec = load_compression_model(sys.argv[1])
codes = torch.from_numpy(np.load(sys.argv[3]).astype("int64"))
wav = codec.decode(codes)
assert wav.shape[-1] == int(sys.argv[2]) * codec.sample_rate, wav.shape
"""


def run(*command: str) -> tuple[str, float, float, float]:
    """Run one process: what it printed, wall seconds, CPU seconds, peak memory in MiB."""
    read, write = os.pipe()
    began = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os.dup2(write, 1)
        os.close(read)
        os.execv(command[0], list(command))
    os.close(write)
    with os.fdopen(read) as pipe:
        printed = pipe.read()
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - began
    if status != 0:
        sys.exit(f"error: {' '.join(command)[:100]} failed")
    return printed, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def spread(values: list[float]) -> dict[str, float]:
    """Median and worst of some runs."""
    return {"median": round(statistics.median(values), 3), "worst": round(max(values), 3)}


def bench_import(runs: int) -> dict:
    """Seconds of `import audiocraft`, and of MusicGen beyond `import torch`."""
    run(sys.executable, "-c", IMPORT_MUSICGEN)  # fills the bytecode and disk caches
    package = [float(run(sys.executable, "-c", IMPORT_PACKAGE)[0]) for _ in range(runs)]
    pairs = [list(map(float, run(sys.executable, "-c", IMPORT_MUSICGEN)[0].split())) for _ in range(runs)]
    return {
        "import audiocraft, s": spread(package),
        "import torch, s": spread([torch_s for torch_s, _ in pairs]),
        "from audiocraft.models import MusicGen beyond torch, s": spread([ours for _, ours in pairs]),
    }


def bench_material() -> dict:
    """CPU and wall seconds of ten minutes of made-up jungle."""
    with tempfile.TemporaryDirectory() as folder:
        script = str(ROOT / "scripts/make_jungle.py")
        _, wall, cpu, memory = run(sys.executable, script, folder, "--minutes", "10", "--seed", "0")
    return {"10 minutes of jungle, s": {"wall": round(wall, 1), "cpu": round(cpu, 1)}, "peak, MiB": round(memory)}


def bench_long_file(codec: str, minutes: float) -> dict:
    """Seconds and peak memory of coding a long file in one call each way."""
    seconds = str(int(minutes * 60))
    with tempfile.TemporaryDirectory() as folder:
        codes = str(Path(folder) / "codes.npy")
        _, encode_s, _, encode_mib = run(sys.executable, "-c", ENCODE_HOUR, codec, seconds, codes)
        _, decode_s, _, decode_mib = run(sys.executable, "-c", DECODE_HOUR, codec, seconds, codes)
    return {
        "codec": codec,
        "minutes": minutes,
        "encode": {"s": round(encode_s, 1), "peak, MiB": round(encode_mib)},
        "decode": {"s": round(decode_s, 1), "peak, MiB": round(decode_mib)},
    }


def bench_boot(model: str, runs: int) -> dict:
    """Wall seconds from process start to 10 s of audio on disk."""
    walls, memory = [], 0.0
    for index in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            _, wall, _, peak = run(
                *(sys.executable, "-m", "audiocraft", "generate", model),
                *("--duration", "10", "--num", "1", "--seed", str(index), "--out", folder),
            )
        walls.append(wall)
        memory = max(memory, peak)
    return {"model": model, "start to 10 s on disk, s": spread(walls), "peak, MiB": round(memory)}


def commit() -> str:
    """Short hash of the checked-out commit, with a mark for changes; 'unknown' outside git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def processor() -> str:
    """The processor's name, and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        name = names[0] if names else name
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def main() -> None:
    """Parse the command line, measure, print and append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["import", "material", "long-file", "boot"])
    parser.add_argument("model", nargs="?", help="boot: a model folder")
    parser.add_argument("--runs", type=int, default=5, help="processes to take the median of (import, boot)")
    parser.add_argument("--codec", default="//pretrained/mini_32khz", help="long-file: the codec")
    parser.add_argument("--minutes", type=float, default=60, help="long-file: length of the file")
    options = parser.parse_args()
    if options.what == "boot" and options.model is None:
        parser.error("boot needs a model folder: python scripts/bench.py boot outputs/demo/model")
    figures = {
        "import": lambda: bench_import(options.runs),
        "material": bench_material,
        "long-file": lambda: bench_long_file(options.codec, options.minutes),
        "boot": lambda: bench_boot(options.model, options.runs),
    }[options.what]()
    line = {
        "what": options.what,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": processor(),
        "python": platform.python_version(),
        "runs": options.runs,
        "figures": figures,
    }
    out = Path("outputs/bench.jsonl")
    out.parent.mkdir(exist_ok=True)
    with out.open("a") as file:
        file.write(json.dumps(line) + "\n")
    for name, value in figures.items():
        print(f"{name:58} {value}")
    print(f"appended to {out}")


if __name__ == "__main__":
    main()
