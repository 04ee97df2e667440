"""Two processes train one codec with its adversaries: they must hold the same weights throughout."""

from pathlib import Path

import numpy as np
import soundfile
import torch
from two import run_two

from audiocraft.data.manifest import AudioMeta, save_audio_meta

RATE = 16000

# A rank trains through the real entry points and keeps what it ended with.
IN_EACH_PROCESS = """
from audiocraft import train
from audiocraft.solvers.compression import CompressionSolver
xp = train.main.make_xp(arguments)
train.main.init_xp(xp)
with xp.enter():
    solver = CompressionSolver(xp.cfg)
    solver.run()
states = {"model": solver.model.state_dict(), "adversary": solver.adv_losses["msstftd"].adversary.state_dict()}
torch.save({"states": states, "history": solver.history}, f"{folder}/rank{rank}.pt")
"""


def test_both_processes_hold_the_same_codec_and_adversary(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    meta = []
    for i in range(4):  # one sound per process and step differs, or nothing would show
        soundfile.write(tmp_path / f"{i}.wav", 0.1 * (i + 1) * rng.standard_normal(RATE), RATE)
        meta.append(AudioMeta(str(tmp_path / f"{i}.wav"), 1.0, RATE))
    save_audio_meta(tmp_path / "data.jsonl", meta)
    settings = [
        "solver=compression/debug",
        *(f"datasource.{split}={tmp_path}" for split in ("train", "valid", "evaluate", "generate")),
        f"dora.dir={tmp_path / 'runs'}",
        f"sample_rate={RATE}",
        "dataset.segment_duration=0.25",
        "dataset.batch_size=4",
        "seanet.dimension=16",
        "seanet.ratios=[5,4,4,4]",
        "rvq.bins=32",
        "losses.adv=4",
        "losses.feat=4",
        "balancer.balance_grads=true",
        "adversarial.start=2",
        "optim.epochs=1",
        "optim.updates_per_epoch=5",
        "optim.lr=3e-3",
        "schedule.cosine.warmup=1",
        "generate.every=null",
        "evaluate.every=null",
        "logging.progress=off",
    ]
    run_two(IN_EACH_PROCESS, *settings, folder=tmp_path)
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    for part, state in first["states"].items():
        for name, value in state.items():
            assert torch.allclose(value, second["states"][part][name], rtol=1e-5, atol=1e-6), f"{part} {name}"
    assert {"adv", "feat", "d_loss"} <= first["history"][0]["train"].keys()
    assert first["history"][0]["valid"]["loss"] == second["history"][0]["valid"]["loss"]
