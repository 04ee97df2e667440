"""A language model's run on a few seconds of sound with a tiny codec: how it is started, stopped and read."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from tiny import RATE, write_codec

from audiocraft import train
from audiocraft.data.manifest import AudioMeta, save_audio_meta
from audiocraft.solvers.musicgen import MusicGenSolver

DURATIONS = (3.0, 2.1, 0.7, 0.25)


def write_material(folder: Path) -> Path:
    """A codec and four short files in a manifest, in a folder that is there."""
    write_codec(folder / "codec")
    rng = np.random.default_rng(0)
    meta = []
    for i, seconds in enumerate(DURATIONS):
        path = folder / f"{i}.wav"
        time = np.arange(int(seconds * RATE)) / RATE
        wave = 0.3 * np.sin(2 * np.pi * 110 * (i + 1) * time) + 0.1 * rng.standard_normal(len(time))
        soundfile.write(path, wave, RATE)
        meta.append(AudioMeta(str(path), seconds, RATE))
    save_audio_meta(folder / "data.jsonl", meta)
    return folder


def settings(material: Path, *overrides: str) -> list[str]:
    sources = [f"datasource.{split}={material}" for split in ("train", "valid", "evaluate", "generate")]
    return [
        "solver=musicgen/debug",
        *sources,
        f"compression_model_checkpoint={material}/codec",
        f"sample_rate={RATE}",
        "transformer_lm.dim=16",
        "transformer_lm.num_heads=2",
        "transformer_lm.num_layers=1",
        "transformer_lm.card=64",
        "dataset.segment_duration=1",
        "dataset.batch_size=2",
        "dataset.valid.num_samples=3",
        "dataset.evaluate.num_samples=3",
        "dataset.generate.num_samples=3",
        "generate.every=2",
        "generate.lm.prompt_duration=0.4",
        "generate.lm.top_k=20",
        "optim.epochs=2",
        "optim.updates_per_epoch=4",
        "optim.lr=1e-2",
        "logging.progress=off",
        *overrides,
    ]


def build(material: Path, *overrides: str) -> MusicGenSolver:
    """The solver as the entry point builds it, not yet run."""
    xp = train.main.make_xp(settings(material, *overrides))
    train.main.init_xp(xp)
    with xp.enter():
        return MusicGenSolver(xp.cfg)


def metrics_of(folder: Path) -> list[dict[str, dict[str, float]]]:
    """What a run measured, without times."""
    history = json.loads((folder / "history.json").read_text())
    return [
        {stage: {k: v for k, v in values.items() if k != "duration"} for stage, values in epoch.items()}
        for epoch in history
    ]


def assert_same_metrics(one: Path, other: Path) -> None:
    ours, theirs = metrics_of(one), metrics_of(other)
    assert len(ours) == len(theirs)
    for epoch, expected in zip(ours, theirs):
        assert epoch.keys() == expected.keys()
        for stage in epoch:
            assert epoch[stage] == pytest.approx(expected[stage], rel=1e-6)


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Send the process a Ctrl-C in that step."""
    step, done = MusicGenSolver.run_step, []

    def counted(self: MusicGenSolver, *args: Any) -> dict:
        done.append(1)
        if len(done) == steps:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, *args)

    monkeypatch.setattr(MusicGenSolver, "run_step", counted)
