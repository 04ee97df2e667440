"""What `novelty` was measured to find, as the record says, and how copies are planted."""

import json
from pathlib import Path

import check_novelty
import numpy as np
import pytest
import soundfile
import torch

RECORD = Path(__file__).resolve().parents[2] / "assets" / "novelty" / "novelty.json"


def test_the_record_holds() -> None:
    """Copies that are exact, shifted, louder, softer or coded anew are found; new music is new; indexing is quick."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    asked = [name for name in record["planted"] if "codec" not in name]
    assert len(asked) == 9 and all(record["planted"][name]["found"] >= 0.95 for name in asked)
    assert record["fresh"]["false_alarms"] <= 0.01 and record["fresh"]["without_scale"] <= 0.01
    assert record["hours"] >= 10 and record["seconds_to_index"] < 60


@pytest.mark.parametrize("on_frames", [True, False])
def test_a_copy_lies_where_it_is_looked_for(on_frames: bool, tmp_path: Path) -> None:
    rate, frame = check_novelty.RATE, check_novelty.FRAME
    old = np.arange(8 * rate) / (16 * rate)  # tells where a sample is from
    soundfile.write(tmp_path / "old.wav", old, rate, subtype="FLOAT")
    soundfile.write(tmp_path / "new.wav", np.full(8 * rate, -0.5), rate, subtype="FLOAT")
    files = [[str(tmp_path / name)] for name in ("old.wav", "new.wav")]
    take = check_novelty.plant(*files, on_frames, np.random.default_rng(1))
    assert take.shape == (1, check_novelty.LENGTH)
    begin, end = check_novelty.BEFORE, check_novelty.BEFORE + check_novelty.COPY
    assert (take[0, begin:end] >= 0).all() and (take[0, :begin] == -0.5).all() and (take[0, end:] == -0.5).all()
    places = (take[0, begin:end].double() * 16 * rate).round().long()
    assert (places.diff() == 1).all() and (int(places[0]) % frame == 0) == on_frames


def test_louder_is_clipped() -> None:
    wav = torch.tensor([[0.25, 0.9]])
    torch.testing.assert_close(check_novelty.gain(6)(wav), torch.tensor([[0.4988, 1.0]]), atol=1e-3, rtol=0)


def test_the_record_is_drawn(tmp_path: Path) -> None:
    check_novelty.draw(json.loads(RECORD.read_text(encoding="utf-8")), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
