"""What stops a language model's run, told in one line."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import RATE
from tiny_lm import DURATIONS, build, settings

from audiocraft import train
from audiocraft.data.manifest import AudioMeta, save_audio_meta
from audiocraft.errors import UserError
from audiocraft.models.lm import LMModel

pytestmark = pytest.mark.usefixtures("here")


@pytest.mark.parametrize(
    "override, way_out",
    [
        ("transformer_lm.card=128", "transformer_lm.card=64"),
        (
            "transformer_lm.n_q=2",
            "transformer_lm.n_q=4 codebooks_pattern.delay.delays=[0,1,2,3], or compression_model_n_q=2",
        ),
        ("compression_model_n_q=5", "choose 1 to 4"),
        ("sample_rate=32000", "sample_rate=16000"),
        ("channels=2", "channels=1"),
        ("generate.lm.prompt_duration=1.0", "below generate.lm.gen_duration"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(material: Path, override: str, way_out: str) -> None:
    with pytest.raises(UserError) as error:
        train.run(settings(material, "generate.every=1", override))
    assert way_out in str(error.value) and "\n" not in str(error.value)


def test_a_loss_that_is_no_number_stops_the_run(material: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predict, calls = LMModel.compute_predictions, []

    def spoiled(self: LMModel, *args: Any, **kwargs: Any) -> Any:
        output = predict(self, *args, **kwargs)
        calls.append(1)
        output.logits = output.logits * (math.nan if len(calls) == 8 else 1.0)
        return output

    monkeypatch.setattr(LMModel, "compute_predictions", spoiled)
    with pytest.raises(UserError, match=r"step 1 of epoch 2 \(train; files: .*wav\); the last good checkpoint is .*th"):
        train.run(settings(material, "generate.every=null"))


def test_no_file_can_be_coded(material: Path, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no audio")
    save_audio_meta(tmp_path / "data.jsonl", [AudioMeta(str(tmp_path / "text.wav"), 3.0, RATE)])
    with pytest.raises(UserError, match=r"not one of the 1 files of datasource.train can be coded"):
        train.run(settings(material, f"datasource.train={tmp_path}"))


# Weights from elsewhere.


def test_a_wrong_rate_in_the_manifest_is_told_and_changes_nothing(
    material: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    meta = [AudioMeta(str(material / f"{i}.wav"), seconds, 44100) for i, seconds in enumerate(DURATIONS)]
    save_audio_meta(tmp_path / "data.jsonl", meta)
    sources = [f"datasource.{split}={tmp_path}" for split in ("train", "valid", "evaluate", "generate")]
    wrong = build(material, *sources)
    assert "0.wav is at 16000 Hz, not at 44100 Hz as its manifest says (and 3 more); the file is right" in caplog.text
    right = build(material)
    for (codes, _), (expected, _) in zip(wrong.dataloaders["valid"], right.dataloaders["valid"]):
        assert torch.equal(codes, expected)
