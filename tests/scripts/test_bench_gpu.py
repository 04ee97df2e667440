"""The GPU script: single steps on the CPU, and the summary of a made-up record."""

from pathlib import Path

import bench_gpu
import pytest
import torch
from bench_records import FACTS, SPEED, played, stamp
from benchmarks import gpu, process, steps
from benchmarks.record import Session, append, read

from audiocraft.models import builders


def test_a_training_step_is_timed_and_its_operations_counted() -> None:
    measured = steps.time_training("pico", torch.device("cpu"), "float32", batch=2, seconds=0.2, timed=1)
    frames, lm = 10, 3_672_576  # pico's linear layers and norms
    assert measured["step_s"] > 0
    assert measured["flops"] == 3 * 2 * 2 * (lm * frames + 2 * 256 * frames**2)
    assert "vram_mib" not in measured


def test_steps_of_the_decoder_are_timed() -> None:
    lm = builders.get_debug_lm_model()
    measured = steps.time_decode(lm, "float32", batch=2, graphs=False, frames=50)
    assert measured["steps"] == 53 and measured["precision"] == "float32"
    assert 0 < measured["step_s"] <= measured["worst_s"] <= measured["all_s"]
    apart = ("emb.", "condition_provider.")
    weights = sum(p.numel() for name, p in lm.named_parameters() if not name.startswith(apart))
    of_the_text = 2 * 2 * (16 * 16 + 16)  # keys and values, once per layer
    assert measured["bytes"] == 4 * (weights - of_the_text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of records as a run would leave it."""
    facts = {**stamp(), "device": "cuda"}
    speed = {"GB/s": 1000.0, "GFLOP/s bfloat16": 100_000.0, "GFLOP/s float32": 20_000.0}
    step = {"model": "micro", "batch": 1, "way": "graphs", "precision": "bfloat16", "step_s": 2e-4, "worst_s": 1e-3}
    train = {"model": "micro", "batch": 8, "seconds": 10.0, "precision": "bfloat16", "step_s": 0.05, "flops": 2.5e12}
    for what, more in (
        ("checks", {"lines": ["ok   codec", "FAIL graphs"]}),
        ("machine", {"speed": speed}),
        ("step", {**step, "all_s": 0.15, "steps": 503, "bytes": 100_000_000}),
        ("train", {**train, "vram_mib": 4000.0}),
    ):
        append(tmp_path / "gpu.jsonl", {**facts, "what": what, **more})
    append(tmp_path / "play.jsonl", {**stamp(), "what": "machine", "device": "cuda", "speed": SPEED})
    append(tmp_path / "play.jsonl", {**stamp(), "what": "model", "model": "micro", "weights": "random", "facts": FACTS})
    warm = {"lm": 0.15, "decode": 0.05, "total": 0.2}
    append(tmp_path / "play.jsonl", played(4.0, 0, batch=10, device="NVIDIA Test", vram_mib=1500.0, warm=warm))
    return tmp_path


@pytest.mark.parametrize(("arguments", "says"), [(["--device", "meta"], "meta"), (["--batches", "0"], "above 0")])
def test_nothing_is_made_for_a_mistake(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        bench_gpu.main([*arguments, "--out", str(tmp_path / "out")])
    assert says in f"{stopped.value.code} {capsys.readouterr().err}"
    assert not (tmp_path / "out").exists()


def test_the_summary_says_what_the_records_say(folder: Path) -> None:
    assert bench_gpu.main(["--write-only", "--out", str(folder)]) == 0
    text = (folder / "gpu.md").read_text()
    assert text.startswith("# NVIDIA Test\n")
    assert "- FAIL graphs" in text and "abc1234" in text
    assert "| micro | 1 | bfloat16 | graphs | 200 | 100 | 2.0 | 0.150 |" in text
    assert "| micro | 10 × 10 s | int8 | 1.00 | 0.50 | 2.00 | 0.40 | 4.00 | 0.150 | 0.050 | 1500 |" in text
    assert "| micro | 8 | 10 | bfloat16 | 50.0 | 50.00 | 50% | 4000 |" in text


def test_a_failed_check_and_a_missing_part_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = gpu.GpuPlan(["micro"], [1], None, 1.0, 1, "cuda:9", "random", tmp_path, 1)
    monkeypatch.setattr(
        gpu, "run", lambda *_, **__: process.Finished("ok   codec\nFAIL logits by far\n", 1.0, 1.0, 1.0)
    )
    session = Session(tmp_path / "gpu.jsonl")
    assert not gpu._check(plan, session)
    assert "FAIL logits" in capsys.readouterr().out

    def fail(function: str, **arguments: object) -> dict:
        raise gpu.ProcessFailed("device=cuda:9 was asked for but torch sees none")

    monkeypatch.setattr(gpu, "measured", fail)
    assert not gpu._measure_part("step", {"model": "micro"}, session, "steps.decode", model="somewhere")
    assert "skipped: step, micro: device=cuda:9" in capsys.readouterr().out
    assert [line["what"] for line in read(session.path)] == ["checks"]
