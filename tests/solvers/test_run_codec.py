"""A run keeps the codec that it began with."""

from pathlib import Path

import pytest
import torch

from audiocraft import train
from audiocraft.checkpoints.locate import CODEC_FILE
from audiocraft.errors import UserError
from audiocraft.models import MusicGen
from audiocraft.models.export import export_model
from audiocraft.models.loaders import load_compression_model
from audiocraft.solvers.run_codec import check_codec, keep_codec

RATE = 16000


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, list[str]]:
    """Folder of a language model's run of one step, of the codec's run, and the settings of the former."""
    import numpy as np
    import soundfile

    from audiocraft.data.manifest import AudioMeta, save_audio_meta

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUDIOCRAFT_DORA_DIR", raising=False)
    soundfile.write("a.wav", 0.1 * np.random.default_rng(0).standard_normal(2 * RATE), RATE)
    save_audio_meta(tmp_path / "data.jsonl", [AudioMeta(str(tmp_path / "a.wav"), 2.0, RATE)])
    common = [
        *(f"datasource.{split}={tmp_path}" for split in ("train", "valid", "evaluate", "generate")),
        f"sample_rate={RATE}",
        "dataset.segment_duration=0.5",
        "dataset.batch_size=2",
        "optim.epochs=1",
        "optim.updates_per_epoch=1",
        "generate.every=null",
        "evaluate.every=null",
        "logging.progress=off",
    ]
    codec = train.run(["solver=compression/debug", *common, "seanet.dimension=16", "rvq.bins=32"]).folder
    settings = [
        "solver=musicgen/debug",
        *common,
        f"compression_model_checkpoint=//sig/{codec.name}",
        "transformer_lm.dim=16",
        "transformer_lm.num_heads=2",
        "transformer_lm.num_layers=1",
        "transformer_lm.card=32",
    ]
    return train.run(settings).folder, codec, settings


def take(name: str | Path) -> torch.Tensor:
    model = MusicGen.get_pretrained(str(name), "cpu")
    model.set_generation_params(duration=0.4)
    wav = model.generate_unconditional(1, seed=3)
    assert isinstance(wav, torch.Tensor)
    return wav


def test_a_codec_trained_further_changes_no_model(run: tuple[Path, Path, list[str]], tmp_path: Path) -> None:
    folder, codec, settings = run
    before = take(folder)
    state = torch.load(codec / "checkpoint.th", weights_only=True)
    for value in state["ema"]["state"]["model"].values():
        if value.is_floating_point():
            value.mul_(1.3)
    torch.save(state, codec / "checkpoint.th")
    codes = torch.zeros(1, 4, 5, dtype=torch.long)
    now, kept = (load_compression_model(path).decode(codes) for path in (codec, folder / CODEC_FILE))
    assert not torch.allclose(now, kept)
    assert torch.equal(take(folder), before)
    assert torch.equal(take(export_model(folder, tmp_path / "export")), before)
    assert train.run([*settings, "optim.epochs=2"]).folder == folder
    assert torch.equal(load_compression_model(folder / CODEC_FILE).decode(codes), kept)


def test_a_model_outlives_the_run_of_its_codec(run: tuple[Path, Path, list[str]]) -> None:
    folder, codec, _ = run
    before = take(folder)
    (codec / "checkpoint.th").unlink()
    assert torch.equal(take(folder), before)


def test_a_codec_of_the_peer_is_kept_by_name(run: tuple[Path, Path, list[str]], tmp_path: Path) -> None:
    folder, *_ = run
    (folder / CODEC_FILE).unlink()
    kept = keep_codec("facebook/encodec_32khz", folder)
    assert torch.load(kept, weights_only=True)["pretrained"] == "facebook/encodec_32khz"
    exported = torch.load(export_model(folder, tmp_path / "export") / CODEC_FILE, weights_only=True)
    assert exported["pretrained"] == "facebook/encodec_32khz" and "best_state" not in exported


def test_a_run_that_keeps_its_codec_needs_no_other(tmp_path: Path) -> None:
    check_codec("//pretrained/mini_32khz", tmp_path)
    check_codec("debug_compression_model", tmp_path)
    with pytest.raises(UserError, match="nowhere"):
        check_codec("nowhere", tmp_path)
    (tmp_path / CODEC_FILE).touch()
    check_codec("nowhere", tmp_path)
