"""Takes: numbers are never used twice, nothing is overwritten, and the JSON says what made them."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from audiocraft.commands import takes
from audiocraft.commands.takes import check_folder, load_takes, save_take, tame
from audiocraft.data.audio import audio_read
from audiocraft.errors import UserError

WAV = torch.sin(torch.arange(3200) / 10)[None] * 0.25


def test_numbers_and_notes(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "takes"
    first = save_take(folder, WAV, 32000, {"seed": 7})
    second = save_take(folder, WAV, 32000, {"seed": 8}, format="flac")
    assert [p.name for p in (first, second)] == ["take_0001.wav", "take_0002.flac"]
    notes = json.loads(second.with_suffix(".json").read_text())
    assert notes["file"] == "take_0002.flac" and notes["seed"] == 8 and notes["sample_rate"] == 32000
    assert notes["seconds"] == 0.1 and notes["version"] and notes["made"]
    assert [(path.name, record["seed"]) for path, record in load_takes(folder)] == [(first.name, 7), (second.name, 8)]
    assert sorted(p.name for p in folder.iterdir()) == [
        "take_0001.json",
        "take_0001.wav",
        "take_0002.flac",
        "take_0002.json",
    ]


def test_earlier_files_stay(tmp_path: Path) -> None:
    """Numbers of takes that lost a half, or came from elsewhere, are not used again."""
    (tmp_path / "take_0007.wav").write_text("mine")
    (tmp_path / "take_0009.json").write_text("also mine")
    assert save_take(tmp_path, WAV, 32000, {}).name == "take_0010.wav"
    assert (tmp_path / "take_0007.wav").read_text() == "mine"
    assert (tmp_path / "take_0009.json").read_text() == "also mine"
    for text in ('{"file": "' + "a" * 5000 + '"}', '{"file": "\\u0000"}', "[" * 100_000, '{"file": 5}', "[]"):
        (tmp_path / "take_0009.json").write_text(text)
        assert [path.name for path, _ in load_takes(tmp_path)] == ["take_0010.wav"]


def test_a_check_leaves_nothing_and_disturbs_no_other(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: check_folder(tmp_path / "a" / "b" / "c"), range(200)))
    assert not list(tmp_path.iterdir())
    (tmp_path / "here").mkdir()
    check_folder(tmp_path / "here")
    assert [path.name for path in tmp_path.rglob("*")] == ["here"]


@pytest.mark.parametrize("name", ["file", "file/takes", "link", "link/takes", "x" * 300])
def test_a_check_refuses_places_where_no_folder_can_be(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(UserError, match=f"{name} cannot be written .*; choose another place"):
        check_folder(tmp_path / name)


@pytest.mark.parametrize("links", [True, False])
def test_many_writers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    """Writers at the same time get different numbers, on disks without hard links too."""

    def no_link(*_: object) -> None:
        raise OSError("not here")

    if not links:
        monkeypatch.setattr(os, "link", no_link)
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda seed: save_take(tmp_path, WAV, 32000, {"seed": seed}), range(12)))
    assert len(set(paths)) == 12
    for seed, path in enumerate(paths):
        assert json.loads(path.with_suffix(".json").read_text())["seed"] == seed


def test_level(tmp_path: Path) -> None:
    """Quiet audio keeps its level; loud audio is turned down, not clipped."""
    quiet, _ = audio_read(save_take(tmp_path, WAV, 32000, {}))
    assert (quiet - WAV).abs().max() < 1e-4
    loud, _ = audio_read(save_take(tmp_path, WAV * 12, 32000, {}))
    assert 0.8 < loud.abs().max() < 1
    assert (loud / loud.abs().max() - WAV / WAV.abs().max()).abs().max() < 1e-3


def test_refusals_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        save_take(tmp_path, WAV * float("nan"), 32000, {})
    with pytest.raises(UserError):
        save_take(tmp_path, WAV, 32000, {}, format="xyz")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        save_take(tmp_path / "file" / "takes", WAV, 32000, {})


def test_the_loudest_thousandth_is_found_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    wav = torch.randn(2, 5000, generator=torch.Generator().manual_seed(0))
    expected = wav.abs().flatten().sort().values[9989]
    for block in (1 << 20, 700):
        monkeypatch.setattr(takes, "_BLOCK", block)
        assert takes._loudest(wav) == expected
    assert takes._loudest(wav[:1, :1]) == wav[0, 0].abs()


def test_tame() -> None:
    """A few samples beyond full scale cost no level; many of them do, in proportion."""
    wave = torch.sin(torch.arange(32000) / 7)[None] * 0.5
    assert torch.equal(tame(wave), wave)
    spiked = wave.clone()
    spiked[0, ::2000] = 3
    tamed = tame(spiked)
    assert tamed.abs().max() <= 1 and torch.equal(tamed[0, 1:2000], wave[0, 1:2000])
    loud = tame(wave * 8)
    assert loud.abs().max() <= 1 and 0.5 < loud.pow(2).mean().sqrt() < 0.75
    assert torch.allclose(loud[wave.abs() < 0.3], (wave * 2)[wave.abs() < 0.3], atol=1e-2)
