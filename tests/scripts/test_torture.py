"""Runs that are killed come out as runs that are not; a short form of what `scripts/torture.py` is for."""

import json
from pathlib import Path

import pytest
import torch
import torture


def test_five_kills(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        torture.main(["--kills", "5", "--seed", "1", "--kind", "codec", "--out", str(tmp_path / "record.json")])
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["faults"] == [] and end.value.code == 0
    assert len(record["kills"]) == sum(record["phases"].values()) == 5
    assert {"date", "commit", "machine", "seed"} <= record.keys()


def test_phases_are_told_from_what_a_process_says(tmp_path: Path) -> None:
    watcher = torture.Watcher()
    run = f"{tmp_path}/outputs/xps/0a"
    for words, phase in (
        (["open", f"{run}/.lock", "a+"], "starting"),
        (["log", f"Run 0a in {run}"], "loading"),
        (["open", f"{run}/.checkpoint.~ab12cd_e.th", "r+"], "saving: removing what was left"),
        (["log", "This run will take about 1 MB"], "training"),
        (["open", f"{run}/.checkpoint.~abcdefgh.th", "None"], "saving: writing"),
        (["open", f"{run}/.checkpoint.~abcdefgh.th", "r"], "saving: flushing"),
        (["os.rename", f"{run}/.checkpoint.~abcdefgh.th", f"{run}/checkpoint.th"], "saving: renaming"),
        (["os.remove", f"{run}/.checkpoint.~abcdefgh.th"], "training"),
        (["log", "Train Summary | Epoch 1"], "validating"),
    ):
        watcher.hear(json.dumps(words).encode())
        assert (f"saving: {watcher.mark}" if watcher.file else watcher.stage) == phase
    watcher.hear(json.dumps(["os.rename", f"{run}/history.json.tmp", f"{run}/history.json"]).encode())
    assert watcher.record("", tmp_path)["phase"] == "saving: after the rename"
    (tmp_path / "history.json.tmp").touch()
    record = watcher.record("", tmp_path)
    assert record["phase"] == "saving: before the rename" and record["left"] == ["history.json.tmp"]


def test_one_bit_is_a_difference(tmp_path: Path) -> None:
    state = {"a": [torch.tensor([1.0, 0.0])], "history": [{"train": {"loss": 1.0, "duration": 2.0}}]}
    same = {"a": [torch.tensor([1.0, 0.0])], "history": [{"train": {"loss": 1.0, "duration": 3.0}}]}
    other = {"a": [torch.tensor([1.0, -0.0])], "history": [{"train": {"loss": 1.0}}]}
    found = [dict(torture.leaves(content, "x")) for content in (state, same, other)]
    assert found[0] == found[1]
    assert {place for place, _ in found[0].items() ^ found[2].items()} == {"x/a/0"}
