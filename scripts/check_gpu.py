"""Check on a GPU what the tests check on the CPU, in a few minutes, offline.

    python scripts/check_gpu.py [--device cuda] [--micro] [--minutes 10] [--out outputs/check_gpu]

Compares codec, language model and seeded generation with the CPU, greedy codes with the peer's, CUDA graphs with the
steps they record and streams with the whole, looks at what decoding many clips takes, trains a tiny run, continues it,
and (--micro) times a training step of the micro scale in each precision. Ends with a table, and what a failure means;
writes OUT/check_gpu.json and OUT/check_gpu.png, to be sent along with a report. The exit status is 1 if a check failed.
What is not done when the time is over is left out; a check that hangs is a failure.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
import typing as tp
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":  # read when the hub is imported; tests import this file too
    os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from benchmarks import positive
from benchmarks.gpu_figure import Check, draw_checks
from benchmarks.record import stamp
from benchmarks.steps import time_training
from safetensors.torch import load_file

from audiocraft.data.audio import audio_write
from audiocraft.environment import resource_dir
from audiocraft.errors import UserError
from audiocraft.models import MusicGen, builders
from audiocraft.models.encodec import CompressionModel
from audiocraft.models.fast import FastLM
from audiocraft.models.generate import _MARGIN, DecoderState, TokenDecoder
from audiocraft.models.lm import LMModel
from audiocraft.models.loaders import load_compression_model, load_lm_model
from audiocraft.modules.sampling import SamplingParams
from audiocraft.train import main as dora_main
from audiocraft.train import run as train_run
from audiocraft.utils.device import resolve_device

CODEC = "//pretrained/spectral_32khz"
GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden" / "lm_none"


def noise_and_tone(seconds: float, sample_rate: int) -> torch.Tensor:
    """wav [2, 1, T]: a gliding tone with noise bursts, and its reverse."""
    time_s = torch.arange(int(seconds * sample_rate)) / sample_rate
    generator = torch.Generator().manual_seed(0)
    bursts = torch.rand(len(time_s), generator=generator) * ((time_s * 4) % 1 < 0.15)
    wav = 0.4 * torch.sin(2 * torch.pi * (200 + 150 * time_s) * time_s) + 0.4 * bursts
    return torch.stack([wav, wav.flip(0)])[:, None]


def small_lm(scale: str) -> LMModel:
    """An untrained language model of a scale."""
    cfg = dora_main.make_xp(["solver=musicgen/micro_32khz", f"model/lm/model_scale={scale}"]).cfg
    torch.manual_seed(0)
    return builders.get_lm_model(cfg).eval()


def check_codec(device: torch.device) -> str:
    """Codes and audio as on the CPU."""
    codec: CompressionModel = load_compression_model(CODEC)
    wav = noise_and_tone(4.0, codec.sample_rate)
    with torch.no_grad():
        codes, _ = codec.encode(wav)
        audio = codec.decode(codes)
        codec.to(device)
        gpu_codes = codec.encode(wav.to(device))[0].cpu()
        gpu_audio = codec.decode(codes.to(device)).cpu()
    equal = (codes == gpu_codes).float().mean().item()
    error = (audio - gpu_audio).abs().max().item()
    assert equal > 0.99, f"only {equal:.2%} of the codes agree"
    assert error < 1e-3, f"decoded audio differs by {error:.1e}"
    return f"{equal:.2%} of codes equal, audio within {error:.1e}"


def check_logits(device: torch.device) -> str:
    """Logits as on the CPU."""
    lm = small_lm("pico")
    codes = torch.randint(lm.card, (2, lm.n_q, 100), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = lm.compute_predictions(codes, [])
        got = lm.to(device).compute_predictions(codes.to(device), [])
    error = (expected.logits - got.logits.cpu())[expected.mask].abs().max().item()
    assert error < 1e-3, f"logits differ by {error:.1e}"
    return f"within {error:.1e}"


def check_generation(device: torch.device) -> str:
    """Seeded clips as on the CPU, and the same alone as in a batch."""
    lm = small_lm("pico")
    expected = lm.generate(num_samples=3, max_gen_len=100, seed=7)
    lm.to(device)
    batch = lm.generate(num_samples=3, max_gen_len=100, seed=7).cpu()
    alone = lm.generate(num_samples=1, max_gen_len=100, seed=9).cpu()
    equal = (expected == batch).float().mean().item()
    assert (batch[2:] == alone).float().mean() > 0.95, "a clip changes with the batch it is in"
    assert equal > 0.95, f"only {equal:.2%} of the tokens agree with the CPU"
    return f"{equal:.2%} of tokens equal to the CPU's, {(batch[2:] == alone).float().mean():.2%} alone and in a batch"


def check_golden(device: torch.device) -> str:
    """Greedy codes as the peer's, from graphs and without."""
    playing = FastLM(load_lm_model(GOLDEN, device), "float32")
    expected = load_file(GOLDEN / "io.safetensors")["gen_greedy"]
    for graphs in (False, True) if device.type == "cuda" else (False,):
        decoder = TokenDecoder(playing, SamplingParams(use_sampling=False), graphs=graphs)
        state = decoder.start(num_samples=len(expected), frames=expected.shape[-1])
        while state.step < state.num_steps:
            decoder.step(state)
        assert torch.equal(decoder.codes(state).cpu(), expected), f"codes differ from the peer's, graphs={graphs}"
    return f"{expected.numel()} greedy codes equal"


def check_graphs(device: torch.device) -> str:
    """CUDA graphs draw what the same steps draw one kernel at a time: greedy and sampled, over several spans of the
    cache, after a copy and after a save; with the fastest precision too. Off CUDA the steps are compared with exact
    lengths instead of spans, which is what the graphs rest on.

    A clip taken out of its batch goes on as in it in float32 only: in fewer bits, sums in another order are others.
    """
    lm = small_lm("pico")
    lm.to(device)
    told = []
    for precision in ("float32", "auto") if device.type == "cuda" else ("float32",):
        playing = FastLM(lm, precision)
        knobs = SamplingParams(min_p=0.02, cool=0.9, repetition=3.0)
        for params in (SamplingParams(use_sampling=False), SamplingParams(), knobs):
            graphs = TokenDecoder(playing, params, graphs=True, spans=True)
            eager = TokenDecoder(playing, params, graphs=False, spans=device.type == "cuda")
            states = [decoder.start(num_samples=3, frames=600, seed=7) for decoder in (graphs, eager)]
            for decoder, state in zip((graphs, eager), states):
                while state.step < 300:
                    decoder.step(state)
            saved = DecoderState.from_dict(states[0].to_dict(), device)
            others = [states[0].clone(), saved, states[0].take([2])]
            for decoder, state in [(graphs, states[0]), (eager, states[1]), *((graphs, other) for other in others)]:
                while state.step < state.num_steps:
                    decoder.step(state)
            expected = eager.codes(states[1])
            kind = "with all knobs" if params is knobs else "greedy" if params.greedy else "sampled"
            for name, state in zip(("", " after a copy", " after a save"), [states[0], *others]):
                assert torch.equal(graphs.codes(state), expected), f"{precision} {kind} differs{name}"
            alone = (graphs.codes(others[2]) == expected[2:]).float().mean().item()
            if precision == "float32":
                assert alone > 0.9, f"{kind}: a clip taken out of its batch goes on differently ({alone:.0%})"
            told.append(f"{playing.precision} {kind} (alone {alone:.0%})")
    return f"equal, {', '.join(told)}"


def check_stream(device: torch.device) -> str:
    """Chunks joined are the sound of the whole, over two windows."""
    lm = small_lm("pico")
    model = MusicGen("pico", load_compression_model(CODEC, device), lm.to(device), max_duration=6.0)
    model.set_generation_params(duration=10.0)
    whole = model.generate_unconditional(2, seed=3)
    chunks = torch.cat(list(model.stream(2, seed=3)), dim=-1)
    assert isinstance(whole, torch.Tensor)
    error = (whole - chunks).abs().max().item()
    assert error < 1e-4, f"streamed sound differs by {error:.1e}"
    return f"within {error:.1e}"


def check_training(device: torch.device) -> str:
    """A tiny run through the solver: one epoch, then two more in the same folder; the loss falls."""
    codec = load_compression_model(CODEC)
    with tempfile.TemporaryDirectory() as folder:
        audio = Path(folder) / "audio"
        for index, wav in enumerate(noise_and_tone(12.0, codec.sample_rate)):
            audio_write(audio / f"clip{index}", wav, codec.sample_rate, strategy="clip")
        from audiocraft.data.audio_dataset import find_audio_files, save_audio_meta

        manifest = Path(folder) / "egs" / "data.jsonl"
        save_audio_meta(manifest, find_audio_files(audio))
        overrides = [
            "solver=musicgen/micro_32khz",
            "model/lm/model_scale=pico",
            f"device={device}",
            f"dora.dir={folder}/outputs",
            *(f"datasource.{split}={manifest.parent}" for split in ("train", "valid", "evaluate", "generate")),
            "dataset.batch_size=4",
            "dataset.segment_duration=4",
            "dataset.num_workers=0",
            "dataset.valid.num_samples=4",
            "optim.updates_per_epoch=40",
            "optim.lr=1e-3",
            "schedule.lr_scheduler=null",
            "generate.lm.gen_duration=2",
            "generate.lm.prompt_duration=1",
        ]
        first = train_run([*overrides, "optim.epochs=1"])
        again = train_run([*overrides, "optim.epochs=3"])
        assert first.folder == again.folder, "training longer changed the run's folder"
        history = json.loads((again.folder / "history.json").read_text())
    losses = [epoch["train"]["ce"] for epoch in history]
    assert len(losses) == 3 and losses[-1] < losses[0] - 0.3, f"the loss does not fall: {losses}"
    return "ce " + " → ".join(f"{loss:.2f}" for loss in losses)


def check_decode_memory(device: torch.device) -> str:
    """Many clips of the full codec, with random weights, are decoded in the memory that is left for it."""
    if device.type != "cuda":
        return "only CUDA tells"
    cfg = dora_main.make_xp(["solver=compression/encodec_musicgen_32khz"]).cfg
    codec = builders.get_compression_model(cfg).to(device).eval()
    codes = torch.randint(codec.cardinality, (10, codec.num_codebooks, 250), device=device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    with torch.no_grad():
        codec.stream_decoder().decode(codes)
    peak = torch.cuda.max_memory_allocated(device) - before
    assert peak < _MARGIN, f"10 clips of 5 s take {peak / 2**20:.0f} MiB, {_MARGIN / 2**20:.0f} are left for them"
    return f"10 clips of 5 s in {peak / 2**20:.0f} MiB of {_MARGIN / 2**20:.0f}"


def check_micro_steps(device: torch.device) -> str:
    """Seconds and memory of a training step of micro, 3 × 30 s, in each precision."""
    told = []
    for precision in ("float32", "float16", "bfloat16"):
        facts = time_training("micro", device, precision, batch=3, seconds=30.0)
        told.append(f"{precision} {facts['step_s'] * 1e3:.0f} ms {facts.get('vram_mib', 0) / 2**10:.1f} GiB")
    return ", ".join(told)


MEANS = {
    "codec": "The codec computes other numbers on this GPU than on the CPU, so trust nothing that is trained or played "
    "here: use device=cpu.",
    "logits": "The language model computes other numbers on this GPU than on the CPU: use device=cpu.",
    "generation": "Seeds do not give the same clips here as on the CPU; takes can not be made again elsewhere.",
    "golden": "What is played here is not what audiocraft plays with the same weights.",
    "graphs": "Steps recorded as CUDA graphs go wrong on this GPU: set AUDIOCRAFT_CUDA_GRAPHS=0, which is slower.",
    "stream": "What is streamed is not what is generated as a whole: use generate.",
    "decode_memory": "Decoding takes more memory than is kept free for it: use smaller batches (--batch-size).",
    "training": "Training does not learn or does not go on on this GPU: use device=cpu, or autocast=false.",
    "micro_steps": "The micro scale can not be trained with 3 clips of 30 s here: use fewer or shorter ones.",
}


def explain(title: str, error: Exception) -> str:
    """What it means that a check ended with this error, in plain words."""
    if isinstance(error, torch.OutOfMemoryError):
        return "The GPU's memory is full: close what else uses it (nvidia-smi lists that), and run this again."
    return f"{MEANS[title]} Please report it with the files that are written."


def run_checks(
    checks: list[Callable[[torch.device], str]], device: torch.device, end: float, rows: list[Check]
) -> None:
    """Run one check after another until `end` of `time.monotonic`, and write into `rows` what came out."""
    for check in checks:
        title, began = check.__name__.removeprefix("check_"), time.monotonic()
        if began >= end:
            rows.append(Check(title, None, "left out: the time is over", 0.0))
            continue
        print(f"… {title}", flush=True)
        rows.append(Check(title, False, "it hung", 0.0, f"{title} did not end in time. {MEANS[title]}"))
        try:
            good, told, means = True, check(device), ""
        except Exception as error:
            good, told, means = False, f"{type(error).__name__}: {error}", explain(title, error)
        rows[-1] = Check(title, good, " ".join(told.split()), round(time.monotonic() - began, 1), means)


def tell(rows: list[Check], device: torch.device, name: str, out: Path) -> int:
    """Print the table, write it and draw it; the exit status."""
    for row in rows:
        print(f"{row.word:4} {row.title:13} {row.told}")
        if row.means:
            print(f"  → {row.means}")
    failed = sum(row.good is False for row in rows)
    print(f"{sum(row.good is True for row in rows)} passed, {failed} failed")
    out.mkdir(parents=True, exist_ok=True)
    facts = {**stamp(), "device": name, "where": str(device), "checks": [vars(row) for row in rows]}
    (out / "check_gpu.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draw_checks(rows, name, out / "check_gpu.png")
    print(f"written: {out / 'check_gpu.json'}, {out / 'check_gpu.png'}", flush=True)
    return 1 if failed else 0


def main(argv: tp.Sequence[str] | None = None) -> int:
    """Run the checks, print and write the table. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, …; cpu runs the same checks against itself")
    parser.add_argument("--micro", action="store_true", help="also time training steps of micro (needs about 12 GiB)")
    parser.add_argument("--minutes", type=positive(float), default=10.0, help="how long this may take")
    parser.add_argument("--out", type=Path, default=Path("outputs/check_gpu"), help="folder of JSON and figure")
    options = parser.parse_args(argv)
    try:
        device = resolve_device(options.device)
    except UserError as error:
        sys.exit(f"error: {error}")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    checks: list[Callable[[torch.device], str]] = [check_codec, check_logits, check_generation]
    checks += [check_golden, check_graphs, check_stream, check_decode_memory, check_training]
    if options.micro:
        checks.append(check_micro_steps)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    print(f"torch {torch.__version__}, {name}, assets from {resource_dir('assets')}")
    rows: list[Check] = []
    # Two thirds of the time to begin checks in; who still waits for a GPU at the end will not be heard.
    watchdog = threading.Timer(60 * options.minutes, lambda: os._exit(tell(rows, device, name, options.out)))
    watchdog.daemon = True
    watchdog.start()
    run_checks(checks, device, time.monotonic() + 40 * options.minutes, rows)
    watchdog.cancel()
    return tell(rows, device, name, options.out)


if __name__ == "__main__":
    sys.exit(main())
