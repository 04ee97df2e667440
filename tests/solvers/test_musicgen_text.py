"""Training with texts, tiny: from JSON files beside the audio to sound by description."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import RATE
from tiny_lm import DURATIONS, metrics_of, settings

from audiocraft import train
from audiocraft.data.manifest import AudioMeta, save_audio_meta
from audiocraft.models import MusicGen
from audiocraft.models.export import FORMATS, export_model
from audiocraft.modules.conditioners import T5Conditioner

pytestmark = pytest.mark.usefixtures("here")

TEXT = ("conditioner=text2music", "transformer_lm.num_heads=4")


def test_texts_reach_the_model(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptions lie in JSON files beside the audio; the encoder itself is replaced."""
    path = tmp_path / "a.wav"
    path.write_bytes((material / "0.wav").read_bytes())
    path.with_suffix(".json").write_text(json.dumps({"description": "a hum with noise"}))
    save_audio_meta(tmp_path / "data.jsonl", [AudioMeta(str(path), DURATIONS[0], RATE)])
    sources = [f"datasource.{split}={tmp_path}" for split in ("train", "valid", "evaluate", "generate")]
    seen = []

    def encode(self: T5Conditioner, ids: torch.Tensor, mask: torch.Tensor, device: Any) -> torch.Tensor:
        return torch.ones(*ids.shape, 768)

    def tokenize(self: T5Conditioner, x: list[str | None]) -> dict[str, torch.Tensor]:
        seen.extend(x)
        return {"input_ids": torch.ones(len(x), 3, dtype=torch.int64), "attention_mask": torch.ones(len(x), 3).long()}

    monkeypatch.setattr(T5Conditioner, "_encode", encode)
    monkeypatch.setattr(T5Conditioner, "tokenize", tokenize)
    run = train.run(settings(material, *TEXT, *sources, "optim.epochs=1", "generate.every=1"))
    assert "a hum with noise" in seen
    assert json.loads((run.folder / "samples/1/000_free.json").read_text())["text"]["description"] == "a hum with noise"


def test_texts_from_training_to_sound(material: Path, golden: Path, tmp_path: Path) -> None:
    """With a real, tiny T5: training on merged descriptions, export to both layouts, and sound by description."""
    pytest.importorskip("transformers")
    path = tmp_path / "a.wav"
    path.write_bytes((material / "0.wav").read_bytes())
    path.with_suffix(".json").write_text(json.dumps({"description": "a hum", "genre": "Noise", "bpm": 90}))
    save_audio_meta(tmp_path / "data.jsonl", [AudioMeta(str(path), DURATIONS[0], RATE)])
    options = [*TEXT, f"conditioners.description.t5.name={golden}/lm_text/t5", "dataset.train.merge_text_p=1"]
    options += [f"datasource.{split}={tmp_path}" for split in ("train", "valid", "evaluate", "generate")]
    with_texts = train.run(settings(material, *options, "optim.epochs=1", "generate.every=1"))
    other = train.run(
        settings(material, *options, "optim.epochs=1", "generate.every=null", "dataset.train.drop_desc_p=1")
    )
    losses = [metrics_of(run.folder)[0]["train"]["ce"] for run in (with_texts, other)]
    assert losses[0] != losses[1] and all(math.isfinite(loss) for loss in losses)
    takes = []
    for format in ("peer", "safetensors"):
        model = MusicGen.get_pretrained(export_model(with_texts.folder, tmp_path / format, format=format), "cpu")
        assert model.lm.cfg_coef == 3.0 and model.lm.cfg_dropout.p == 0.3
        model.set_generation_params(duration=0.4, cfg_coef=3.0)
        takes.append([model.generate([text], seed=1) for text in ("a hum", "rattling drums", None)])
    for one, two in zip(*takes):
        assert torch.equal(one, two)
    assert not torch.equal(takes[0][0], takes[0][1]) and not torch.equal(takes[0][0], takes[0][2])


@pytest.mark.parametrize("name", ["./t5", "t5"])
def test_a_t5_in_the_folder_one_starts_in(
    material: Path, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The run and its exports play from any folder, the exports also without that T5, and a resumed run is the same."""
    pytest.importorskip("transformers")
    shutil.copytree(golden / "lm_text" / "t5", tmp_path / "t5")
    options = settings(material, *TEXT, f"conditioners.description.t5.name={name}", "generate.every=null")
    run = train.run([*options, "optim.epochs=1"])
    assert train.run([*options, "optim.epochs=1"]).folder == run.folder
    away = tmp_path / "away"
    away.mkdir()
    monkeypatch.chdir(away)
    takes = []
    for source in (run.folder, *(export_model(run.folder, away / form, format=form) for form in FORMATS)):
        if source != run.folder:
            assert (source / "t5" / "spiece.model").is_file()
            shutil.rmtree(tmp_path / "t5", ignore_errors=True)
        model = MusicGen.get_pretrained(source, "cpu")
        model.set_generation_params(duration=0.4, use_sampling=False)
        takes.append(model.generate(["a hum"]))
    assert all(torch.equal(take, takes[0]) for take in takes)


def test_without_texts_no_text_encoder_is_needed(material: Path) -> None:
    assert train.run(settings(material, *TEXT, "optim.epochs=1", "generate.every=1")).finished
