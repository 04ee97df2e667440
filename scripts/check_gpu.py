"""Check on a GPU what the tests check on the CPU, in a few minutes, offline.

    python scripts/check_gpu.py [--device cuda] [--micro]

Compares codec, language model and seeded generation with the CPU, greedy codes with the peer's, CUDA graphs with the
steps they record and streams with the whole, trains a tiny run, continues it, and (--micro) times a training step of
the micro scale in each precision. Ends with a table; the exit status is 1 if a check failed.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from benchmarks.steps import time_training
from safetensors.torch import load_file

from audiocraft.data.audio import audio_write
from audiocraft.environment import resource_dir
from audiocraft.models import MusicGen, builders
from audiocraft.models.encodec import CompressionModel
from audiocraft.models.fast import FastLM
from audiocraft.models.generate import DecoderState, TokenDecoder
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
            assert alone > 0.9, f"{precision} {kind}: a clip taken out of its batch goes on differently ({alone:.0%})"
            told.append(f"{playing.precision} {kind}")
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


def check_micro_steps(device: torch.device) -> str:
    """Seconds and memory of a training step of micro, 3 × 30 s, in each precision."""
    told = []
    for precision in ("float32", "float16", "bfloat16"):
        facts = time_training("micro", device, precision, batch=3, seconds=30.0)
        told.append(f"{precision} {facts['step_s'] * 1e3:.0f} ms {facts.get('vram_mib', 0) / 2**10:.1f} GiB")
    return ", ".join(told)


def main() -> None:
    """Run the checks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, …; cpu runs the same checks against itself")
    parser.add_argument("--micro", action="store_true", help="also time training steps of micro (needs about 12 GiB)")
    options = parser.parse_args()
    device = resolve_device(options.device)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    checks: list[Callable[[torch.device], str]] = [check_codec, check_logits, check_generation]
    checks += [check_golden, check_graphs, check_stream, check_training]
    if options.micro:
        checks.append(check_micro_steps)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    print(f"torch {torch.__version__}, {name}, assets from {resource_dir('assets')}")
    rows = []
    for check in checks:
        title = check.__name__.removeprefix("check_")
        print(f"… {title}", flush=True)
        try:
            rows.append((title, True, check(device)))
        except Exception as error:
            rows.append((title, False, f"{type(error).__name__}: {error}"))
    for title, good, told in rows:
        print(f"{'ok  ' if good else 'FAIL'} {title:12} {told}")
    failed = sum(not good for _, good, _ in rows)
    print(f"{len(rows) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
