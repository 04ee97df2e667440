"""The command that micro-musicgen is known by, word for word, from a folder of audio to sound; only sizes are less."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
import torch
import yaml

ORIGINAL = shlex.split(
    "solver=musicgen/musicgen_base_32khz model/lm/model_scale=micro conditioner=none dataset.batch_size=3 "
    "dset=audio/jungle dataset.valid.num_samples=1 generate.every=10000 evaluate.every=10000 optim.optimizer=adamw "
    "optim.lr=1e-4 optim.adam.weight_decay=0.01 checkpoint.save_every=5"
)
OFFLINE = ["compression_model_checkpoint=//pretrained/mini_32khz"]
SMALLER = [
    *("transformer_lm.dim=32", "transformer_lm.num_layers=1", "dataset.segment_duration=2", "dataset.num_workers=0"),
    *("dataset.evaluate.num_samples=2", "dataset.generate.num_samples=2", "generate.num_workers=0"),
    *("optim.updates_per_epoch=6", "device=cpu", "num_threads=1", "logging.progress=lines"),
    *("schedule.cosine.warmup=0", "optim.lr=1e-2"),  # so that a few steps are enough to learn something
]


def environment() -> dict[str, str]:
    """No hub to try, and dora's package as the clone's folder would give it."""
    kept = {name: value for name, value in os.environ.items() if name != "AUDIOCRAFT_DORA_DIR"}
    return {**kept, "HF_HUB_OFFLINE": "1", "DORA_PACKAGE": "audiocraft", "PYTHONUNBUFFERED": "1"}


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)


def dora_run(*overrides: str) -> list[str]:
    return ["-m", "dora", "run", *ORIGINAL, *overrides]


def history(run: Path) -> list[dict]:
    return json.loads((run / "history.json").read_text())


def test_from_a_folder_of_audio_to_sound(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for index in range(3):
        beat = rng.uniform(-0.5, 0.5, (5 * 44_100, 2)) * np.exp(-8 * (np.arange(5 * 44_100) / 11_025 % 1))[:, None]
        (tmp_path / "sounds").mkdir(exist_ok=True)
        soundfile.write(tmp_path / f"sounds/{index}.wav", beat, 44_100)
    made = python(tmp_path, "-m", "audiocraft.data.audio_dataset", "sounds", "egs/jungle/data.jsonl")
    assert made.returncode == 0, made.stderr

    # The hub cannot be reached: one line that names the ways out.
    refused = python(tmp_path, *dora_run())
    assert refused.returncode == 2
    errors = [line for line in refused.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "error: compression_model_checkpoint=//pretrained/facebook/" in errors[0]
    assert errors[0].endswith("the codec that ships here is //pretrained/spectral_32khz")
    assert "Traceback" not in refused.stderr

    # Started, and interrupted in its second epoch.
    command = [sys.executable, *dora_run(*OFFLINE, *SMALLER)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), **pipes) as process:
        said = []
        assert process.stdout is not None
        for text in process.stdout:
            said.append(text)
            if "Train | epoch 2/500" in text:
                process.send_signal(signal.SIGINT)
                break
        said += process.stdout.readlines()
    assert process.returncode == 130, "".join(said)
    assert re.search(r"Stopped in epoch \d+ after \d+ of 6 steps; the same command goes on from here", said[-1])
    (run,) = (path.parent for path in (tmp_path / "outputs/xps").glob("*/history.json"))
    done = len(history(run))
    assert done >= 1

    # The same command goes on, here to an end two epochs later.
    resumed = python(tmp_path, *dora_run(*OFFLINE, *SMALLER, f"optim.epochs={done + 2}"))
    assert resumed.returncode == 0, resumed.stderr
    assert "Going on in epoch" in resumed.stdout + resumed.stderr
    losses = [epoch["train"]["ce"] for epoch in history(run)]
    assert len(losses) == done + 2 and losses[-1] < losses[0]
    samples = sorted(path.name for path in (run / "samples" / str(done + 2)).glob("*.wav"))
    assert any("free" in name for name in samples) and any("prompted" in name for name in samples)

    # Exported, it is a model folder as the peer writes it.
    exported = python(tmp_path, "-m", "audiocraft", "export", run.name, "--out", "model")
    assert exported.returncode == 0, exported.stderr
    package = torch.load(tmp_path / "model/state_dict.bin", weights_only=True)
    checkpoint = torch.load(run / "checkpoint.th", weights_only=True)
    assert {"best_state", "xp.cfg", "version", "exported"} <= package.keys()
    assert yaml.safe_load(package["xp.cfg"])["conditioners"] == {}
    averaged = checkpoint["ema"]["state"]["model"] if checkpoint["ema"]["count"] else checkpoint["model"]
    assert all(torch.equal(package["best_state"][name], value) for name, value in averaged.items())

    # It plays, the same for the same seed, and no take is overwritten.
    for _ in range(2):
        played = python(
            *(tmp_path, "-m", "audiocraft", "generate", "model", "--duration", "1", "--num", "1"),
            *("--seed", "7", "--out", "takes", "--device", "cpu"),
        )
        assert played.returncode == 0, played.stderr
    first, second = sorted((tmp_path / "takes").glob("*.wav"))
    assert first.read_bytes() == second.read_bytes()
    sound, rate = soundfile.read(first)
    assert rate == 32_000 and len(sound) == 32_000 and np.abs(sound).max() > 0
    facts = json.loads(first.with_suffix(".json").read_text())
    assert facts["seed"] == 7
