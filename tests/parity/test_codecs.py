"""Golden sets codec_ac, codec_ac_causal and codec_hf: codes, latents and decoded waves."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from audiocraft.models import builders
from audiocraft.models.encodec import EncodecModel
from audiocraft.models.loaders import load_compression_model


def load_golden(folder: Path) -> EncodecModel:
    package = torch.load(folder / "compression_state_dict.bin", weights_only=True)
    model = builders.get_compression_model(OmegaConf.create(package["xp.cfg"]))
    assert list(model.state_dict()) == list(package["best_state"])
    model.load_state_dict(package["best_state"])
    assert isinstance(model, EncodecModel)
    return model.eval()


@pytest.mark.parametrize(
    "name, tolerance",
    [
        ("codec_ac", {"encoder": 1e-5, "latent": 9e-7, "decoded": 3e-6, "rand_decoded": 2e-6}),
        ("codec_ac_causal", {"encoder": 5e-6, "latent": 6e-7, "decoded": 2e-6, "rand_decoded": 2e-6}),
    ],
)
@torch.no_grad()
def test_golden(golden: Path, name: str, tolerance: dict[str, float]) -> None:
    io = load_file(golden / name / "io.safetensors")
    model = load_golden(golden / name)
    assert (model.sample_rate, model.frame_rate, model.hop_length, model.channels) == (32000, 50, 640, 1)
    assert (model.cardinality, model.num_codebooks, model.total_codebooks) == (64, 4, 4)
    codes, scale = model.encode(io["wav"])
    assert scale is None and torch.equal(codes, io["codes"])
    made = {
        "encoder": model.encoder(io["wav"]),
        "latent": model.decode_latent(io["codes"]),
        "decoded": model.decode(io["codes"]),
        "rand_decoded": model.decode(io["rand_codes"]),
    }
    for key, value in made.items():
        torch.testing.assert_close(value, io[key], atol=tolerance[key], rtol=0)
    result = model(io["wav"])
    assert torch.equal(result.codes, io["codes"])
    wanted = io["decoded"][..., : io["wav"].shape[-1]]
    torch.testing.assert_close(result.x, wanted, atol=tolerance["decoded"], rtol=0)
    assert abs(float(result.bandwidth) - float(io["forward_bandwidth"])) < 1e-6
    model.set_num_codebooks(2)
    assert torch.equal(model.encode(io["wav"])[0], io["codes"][:, :2])


@torch.no_grad()
def test_hugging_face(golden: Path) -> None:
    folder = golden / "codec_hf"
    io = load_file(folder / "io.safetensors")
    model = load_compression_model(folder)
    assert not model.training and (model.sample_rate, model.frame_rate, model.hop_length) == (32000, 50, 640)
    assert (model.cardinality, model.num_codebooks) == (1024, 4)
    assert torch.equal(model.encode(io["wav"])[0], io["codes"])
    torch.testing.assert_close(model.encoder(io["wav"]), io["encoder"], atol=9e-6, rtol=0)
    torch.testing.assert_close(model.decode_latent(io["codes"]), io["latent"], atol=9e-7, rtol=0)
    torch.testing.assert_close(model.decode(io["codes"]), io["decoded"], atol=2e-6, rtol=0)
    torch.testing.assert_close(model.decode(io["rand_codes"]), io["rand_decoded"], atol=2e-6, rtol=0)
