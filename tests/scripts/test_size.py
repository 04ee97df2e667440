"""Sizes of models: counted from shapes, weighed, drawn."""

import json
from pathlib import Path

import pytest
import size
from benchmarks import sizes
from benchmarks.record import append
from benchmarks.size_figure import Sizes, table


def test_numbers_are_those_of_the_peer(golden: Path) -> None:
    counted = {scale: sizes.count(scale) for scale in ("micro", "small")}
    assert (counted["micro"]["lm"], counted["small"]["lm"]) == (134_246_400, 420_371_456)
    assert counted["micro"]["codec"] == 56_884_674
    assert counted["small"]["text"] and not counted["micro"]["text"]
    state_keys = json.loads((golden / "state_keys.json").read_text())
    assert counted["micro"]["lm_state"] == state_keys["lm_micro_none"]["n_state_elements"]
    assert counted["small"]["lm_state"] == state_keys["lm_small_text2music"]["n_state_elements"]
    codec = state_keys["codec_encodec_musicgen_32khz"]
    assert counted["micro"]["codec_state"] == codec["n_state_elements"]
    # All linear layers, whose biases and norms are a few thousand numbers.
    assert 0.99 < counted["micro"]["lm_matrices"] / 117_460_992 < 1


def test_files_hold_four_two_or_one_byte_per_number() -> None:
    counted = {
        "text": False,
        "lm_state": 1000,
        "lm_matrices": 900,
        "lm_tables": 80,
        "codec": 300,
        "codec_state": 350,
        "codec_decoder": 150,
    }
    assert sizes.file_bytes(counted) == {
        "peer, float32": 4 * 1350,
        "safetensors, float32": 4 * 1350,
        "peer, float16": 2 * 1350,
        "ONNX, float32": 4 * (1000 + 150 + 25),
        "ONNX, int8": 900 + 2 * 80 + 4 * (20 + 150 + 25),
    }
    assert not any("ONNX" in name for name in sizes.file_bytes({**counted, "text": True}))


def test_a_folder_weighs_what_its_weights_do(tmp_path: Path) -> None:
    (tmp_path / "state_dict.bin").write_bytes(b"x" * 10)
    (tmp_path / "model.safetensors").write_bytes(b"x" * 5)
    (tmp_path / "README.md").write_bytes(b"x" * 100)
    (tmp_path / "t5").mkdir()
    (tmp_path / "t5" / "model.safetensors").write_bytes(b"x" * 1000)
    assert sizes.weigh(tmp_path) == 15


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """Two scales counted, one of them weighed and played."""
    stamp = {"session": "2026-01-02", "date": "2026-01-02", "commit": "abc1234", "machine": "a machine", "versions": {}}
    for scale, lm, text in (("small", 420_371_456, True), ("micro", 134_246_400, False)):
        counted = {
            "text": text,
            "lm_state": lm,
            "lm_matrices": lm // 2,
            "lm_tables": 10,
            "codec": 100,
            "codec_state": 120,
            "codec_decoder": 50,
        }
        line = {**stamp, "what": "scale", "scale": scale, "lm": lm, **counted}
        line |= {"files": sizes.file_bytes(counted), "weighed": [] if text else ["peer, float32"]}
        append(tmp_path / "size.jsonl", line)
    memory = {"scale": "micro", "engine": "torch", "precision": "int8", "peak_mib": 1234.0, "total": 20.0}
    append(tmp_path / "size.jsonl", {**stamp, "what": "memory", **memory})
    return tmp_path / "size.jsonl"


def test_the_table_goes_from_small_to_large(record: Path) -> None:
    lines = table(Sizes([json.loads(line) for line in record.read_text().splitlines()])).splitlines()
    assert [line.split()[0] for line in lines] == ["scale", "micro", "small", "micro"]
    assert "134,246,400" in lines[1] and lines[1].count("computed") == 4 and lines[2].count("computed") == 3
    assert "1234 MiB" in lines[3]


def test_the_figure_is_drawn_from_the_record_alone(record: Path) -> None:
    drawn = []
    for _ in range(2):
        size.main(["--draw-only", "--out", str(record.parent)])
        drawn.append((record.parent / "size.png").read_bytes())
    assert drawn[0] == drawn[1] and len(drawn[0]) < 300_000


def test_nothing_to_draw_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="there is no record"):
        size.main(["--draw-only", "--out", str(tmp_path)])
    append(tmp_path / "size.jsonl", {"session": "1", "what": "memory"})
    with pytest.raises(SystemExit, match="holds no sizes"):
        size.main(["--draw-only", "--out", str(tmp_path)])


def test_counting_alone_is_a_run_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size.main(["--scales", "pico", "nano", "--built", "--out", str(tmp_path)])
    assert "5,770,752" in capsys.readouterr().out
    assert (tmp_path / "size.png").is_file()
