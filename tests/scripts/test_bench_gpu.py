"""The GPU script: single steps on the CPU, and the summary of a made-up record."""

import json
import math
import sys
import time
from pathlib import Path

import bench_gpu
import check_gpu
import pytest
import torch
from bench_records import FACTS, SPEED, played, stamp
from benchmarks import gpu, process, steps
from benchmarks.gpu_figure import Check
from benchmarks.record import Session, append, read
from PIL import Image

from audiocraft.models import builders

CHECKS = [
    {"title": "codec", "good": True, "told": "equal", "seconds": 1.0, "means": ""},
    {"title": "graphs", "good": False, "told": "differs", "seconds": 2.0, "means": "Set AUDIOCRAFT_CUDA_GRAPHS=0."},
    {"title": "stream", "good": None, "told": "left out: the time is over", "seconds": 0.0, "means": ""},
]


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The script keeps its process off the hub; later tests are not to be."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


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
        ("checks", {"checks": CHECKS}),
        ("missing", {"name": "train, micro, float32", "why": "no time is left for it; give more --minutes"}),
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
    assert "- FAIL graphs: differs" in text and "abc1234" in text
    assert "| micro | 1 | bfloat16 | graphs | 200 | 100 | 2.0 | 0.150 |" in text
    assert "| micro | 10 × 10 s | int8 | 1.00 | 0.50 | 2.00 | 0.40 | 4.00 | 0.150 | 0.050 | 1500 |" in text
    assert "| micro | 8 | 10 | bfloat16 | 50.0 | 50.00 | 50% | 4000 |" in text
    content = json.loads((folder / "gpu.json").read_text())
    assert [record["what"] for record in content["gpu"]] == ["checks", "missing", "machine", "step", "train"]
    assert [record["what"] for record in content["play"]] == ["machine", "model", "play"]
    assert content["wrong"] == [
        "graphs: Set AUDIOCRAFT_CUDA_GRAPHS=0. (differs)",
        "stream was not checked: left out: the time is over",
        "train, micro, float32 was not measured: no time is left for it; give more --minutes",
    ]
    with Image.open(folder / "gpu.png") as picture:
        assert picture.width > 1000 and len(picture.convert("RGB").getcolors(10**6) or []) > 10


def test_a_session_that_broke_off_after_its_checks_is_told(folder: Path) -> None:
    """What was played at another time is not taken for it."""
    later = stamp("2027-01-01T00:00:00+00:00")
    append(folder / "gpu.jsonl", {**later, "device": "cuda:1", "what": "checks", "checks": CHECKS[:1]})
    assert bench_gpu.main(["--write-only", "--out", str(folder)]) == 0
    content = json.loads((folder / "gpu.json").read_text())
    assert len(content["gpu"]) == 1 and content["play"] == [] and content["wrong"] == []
    assert (folder / "gpu.md").read_text().startswith("# cuda:1\n")


def test_a_failed_check_and_a_missing_part_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = gpu.GpuPlan(["micro"], [1], None, 1.0, 1, "cuda:9", "random", tmp_path, 1)
    asked: list[str] = []

    def checked(command: list[str], accepted: tuple[int, ...]) -> process.Finished:
        asked.extend(command)
        (tmp_path / "check_gpu.json").write_text(json.dumps({"checks": CHECKS}))
        return process.Finished("", 1.0, 1.0, 1.0)

    monkeypatch.setattr(gpu, "run", checked)
    session = Session(tmp_path / "gpu.jsonl")
    assert not gpu._check(plan, session)
    assert "FAIL graphs" in capsys.readouterr().out
    assert asked[asked.index("--device") + 1] == "cuda:9" and float(asked[asked.index("--minutes") + 1]) == 4.0

    def fail(function: str, **arguments: object) -> dict:
        raise gpu.ProcessFailed("device=cuda:9 was asked for but torch sees none")

    monkeypatch.setattr(gpu, "measured", fail)
    assert not gpu._measure_part("step", {"model": "micro"}, session, "steps.decode", model="somewhere")
    assert "skipped: step, micro: device=cuda:9" in capsys.readouterr().out
    assert [line["what"] for line in read(session.path)] == ["checks", "missing"]
    monkeypatch.undo()
    monkeypatch.setattr(gpu, "run", fail)  # what was written before is not taken for an answer
    assert not gpu._check(plan, session)
    assert "broke off: device=cuda:9" in capsys.readouterr().out


def test_the_time_that_is_given_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_end", process._end)
    process.end_at(time.monotonic() + 0.5)
    with pytest.raises(process.ProcessFailed, match="not done in the time"):
        process.run([sys.executable, "-c", "import time; time.sleep(60)"])
    with pytest.raises(process.ProcessFailed, match="no time is left"):
        process.run([sys.executable, "-c", ""])


def check_stream(device: torch.device) -> str:
    return "fine"


def check_codec(device: torch.device) -> str:
    raise AssertionError("only 3% of the codes\nagree")


def check_training(device: torch.device) -> str:
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_checks_say_what_a_failure_means(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[Check] = []
    cpu = torch.device("cpu")
    check_gpu.run_checks([check_stream, check_codec, check_training], cpu, math.inf, rows)
    check_gpu.run_checks([check_codec], cpu, 0.0, rows)
    assert [row.word for row in rows] == ["ok", "FAIL", "FAIL", "skip"]
    assert check_gpu.tell(rows, cpu, "a card", tmp_path / "out") == 1
    told = capsys.readouterr().out
    assert "only 3% of the codes agree" in told and "use device=cpu" in told and "memory is full" in told
    assert "1 passed, 2 failed" in told
    written = json.loads((tmp_path / "out" / "check_gpu.json").read_text())
    assert written["device"] == "a card" and [row["good"] for row in written["checks"]] == [True, False, False, None]
    assert (tmp_path / "out" / "check_gpu.png").stat().st_size > 1000
    assert check_gpu.MEANS.keys() == {name[6:] for name in vars(check_gpu) if name.startswith("check_")}


def test_a_check_that_hangs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own, which ends with all threads."""
    code = "import check_gpu, time; check_gpu.check_codec.__code__ = (lambda device: time.sleep(60)).__code__; "
    code += f"check_gpu.main(['--device', 'cpu', '--minutes', '0.01', '--out', {str(tmp_path)!r}])"
    with pytest.raises(process.ProcessFailed):
        process.run([sys.executable, "-c", code])
    first, *_ = json.loads((tmp_path / "check_gpu.json").read_text())["checks"]
    assert first["title"] == "codec" and first["good"] is False and "did not end in time" in first["means"]


def test_a_device_that_is_not_there_is_one_line() -> None:
    with pytest.raises(SystemExit, match="error: device=nonsense is no device"):
        check_gpu.main(["--device", "nonsense"])
