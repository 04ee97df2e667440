"""What the codec promises; the peer's numbers are in parity/."""

import copy
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from tiny import tiny_encodec

from audiocraft.errors import UserError
from audiocraft.models import builders
from audiocraft.models.encodec import EncodecModel
from audiocraft.modules.seanet import SEANetDecoder, SEANetEncoder
from audiocraft.quantization import DummyQuantizer


def load_golden(folder: Path) -> EncodecModel:
    package = torch.load(folder / "compression_state_dict.bin", weights_only=True)
    model = builders.get_compression_model(OmegaConf.create(package["xp.cfg"]))
    assert list(model.state_dict()) == list(package["best_state"])
    model.load_state_dict(package["best_state"])
    assert isinstance(model, EncodecModel)
    return model.eval()


@pytest.mark.parametrize("length", [1, 5, 6, 7, 130])
def test_lengths(length: int) -> None:
    model = tiny_encodec().eval()
    x = torch.randn(2, 1, length)
    codes, _ = model.encode(x)
    assert codes.shape == (2, 3, -(-length // 6))
    assert model.decode(codes).shape == (2, 1, codes.shape[-1] * 6)
    result = model(x)
    assert result.x.shape == x.shape and torch.equal(result.codes, codes)


@pytest.mark.parametrize("ratios", [[1], [3], [5, 4, 3, 2], [2, 7]])
@pytest.mark.parametrize(
    "training, renormalize, causal", [(True, False, False), (True, True, True), (False, True, False)]
)
def test_lengths_fit_whatever_the_codec(ratios: list[int], training: bool, renormalize: bool, causal: bool) -> None:
    """Also without a quantiser, in stereo, while training, and for less than a frame."""
    shared = {"channels": 2, "dimension": 5, "n_filters": 3, "n_residual_layers": 1, "ratios": ratios, "causal": causal}
    encoder, decoder = SEANetEncoder(**shared), SEANetDecoder(**shared)
    settings = {"frame_rate": 100, "sample_rate": 24000, "channels": 2, "renormalize": renormalize}
    model = EncodecModel(encoder, decoder, DummyQuantizer(), **settings).train(training)
    for length in (1, 2, model.hop_length, model.hop_length + 1, 999):
        x = torch.randn(3, 2, length)
        codes, scale = model.encode(x)
        decoded = model.decode(codes, scale)
        assert (scale is not None) == renormalize
        assert model.decode_latent(codes).shape == (3, 5, -(-length // model.hop_length))
        assert decoded.shape == (3, 2, -(-length // model.hop_length) * model.hop_length)
        torch.testing.assert_close(model(x).x, decoded[..., :length])


def test_training_step_reaches_every_weight() -> None:
    model = tiny_encodec().train()
    x = torch.randn(4, 1, 60)
    result = model(x)
    assert result.x.shape == x.shape
    ((result.x - x).abs().mean() + result.penalty).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_training_lowers_the_loss() -> None:
    model = tiny_encodec().train()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    t = torch.arange(60) / 120
    x = torch.sin(2 * torch.pi * torch.tensor([5.0, 8, 13, 21])[:, None, None] * t)
    losses = []
    for _ in range(50):
        result = model(x)
        loss = (result.x - x).square().mean()
        (loss + 0.1 * result.penalty).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * x.square().mean()


def test_other_precisions() -> None:
    model = tiny_encodec()
    x = torch.randn(2, 1, 60)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = model.train()(x)
        (result.x.float().square().mean() + result.penalty).backward()
    assert result.penalty.dtype == torch.float32 and result.x.shape == x.shape
    model.eval()
    codes, _ = model.encode(x)
    double, bfloat = copy.deepcopy(model).double(), copy.deepcopy(model).bfloat16()
    assert torch.equal(double.encode(x.double())[0], codes)
    assert double.decode(codes).dtype == torch.float64
    assert (bfloat.encode(x.bfloat16())[0] == codes).float().mean() > 0.5
    assert bfloat.decode(codes).dtype == bfloat(x.bfloat16()).x.dtype == torch.bfloat16


def test_renormalized_codec_does_not_hear_loudness() -> None:
    model = tiny_encodec(renormalize=True).eval()
    x = torch.randn(2, 1, 250)
    codes, scale = model.encode(x)
    louder_codes, louder_scale = model.encode(8 * x)
    assert torch.equal(codes, louder_codes) and scale is not None and louder_scale is not None
    torch.testing.assert_close(scale, x.square().mean(-1).sqrt(), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(model.decode(codes, louder_scale), 8 * model.decode(codes, scale))
    torch.testing.assert_close(model(8 * x).x, 8 * model(x).x)
    inner, same_scale = model.preprocess(x)
    assert same_scale is not None
    torch.testing.assert_close(model.postprocess(inner, same_scale), x)


@pytest.mark.parametrize("shape", [(100,), (1, 100), (2, 2, 100), (1, 1, 0), (1, 1, 10, 10)])
def test_wrong_audio_is_named(shape: tuple[int, ...]) -> None:
    for use in (tiny_encodec(), tiny_encodec().encode):
        with pytest.raises(UserError, match=r"\[batch, 1, samples\]"):
            use(torch.zeros(shape))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_audio_without_numbers_is_refused_but_in_training(value: float) -> None:
    model = tiny_encodec().eval()
    x = torch.zeros(1, 1, 60)
    x[0, 0, 7] = value
    for call in (model, model.encode):
        with pytest.raises(UserError, match="NaN or infinite samples"):
            call(x)
    assert not model.train()(x).x.isfinite().all()


def test_wrong_codes_are_named() -> None:
    with pytest.raises(UserError, match="0 to 7"):
        tiny_encodec().decode(torch.full((1, 3, 4), 8))
    with pytest.raises(UserError, match="up to 3 codebooks"):
        tiny_encodec().decode(torch.zeros(1, 4, 4, dtype=torch.long))


def test_codec_without_quantizer() -> None:
    whole = tiny_encodec()
    model = EncodecModel(whole.encoder, whole.decoder, DummyQuantizer(), 20, 120, 1).eval()
    x = torch.randn(1, 1, 61)
    latents, _ = model.encode(x)
    assert latents.shape == (1, 1, 6, 11)
    torch.testing.assert_close(model.decode(latents)[..., :61], model(x).x)


def test_config_mistakes_are_one_line(golden: Path) -> None:
    cfg = OmegaConf.load(golden / "configs" / "compression_encodec_musicgen_32khz.yaml")
    for change in (
        {"seanet": {"n_fliters": 3}},
        {"rvq": {"binz": 3}},
        {"rvq": {"orthogonal_reg_weight": 1.0}},
        {"encodec": {"quantizer": "pq"}},
        {"encodec": {"autoencoder": "unet"}},
        {"compression_model": "dac"},
        {"seanet": None},
    ):
        with torch.device("meta"), pytest.raises(UserError):
            builders.get_compression_model(OmegaConf.merge(cfg, change))


def test_encoder_and_decoder_can_differ(golden: Path) -> None:
    cfg = OmegaConf.load(golden / "configs" / "compression_encodec_musicgen_32khz.yaml")
    change = {
        "seanet": {"n_filters": 2, "lstm": 0, "encoder": {"n_filters": 4}, "decoder": {"final_activation": "Tanh"}}
    }
    model = builders.get_compression_model(OmegaConf.merge(cfg, change, {"rvq": {"bins": 8}}))
    assert model.encoder.n_filters == 4 and model.decoder.n_filters == 2
    assert model.decode(torch.zeros(1, 4, 2, dtype=torch.long)).abs().max() <= 1


@pytest.mark.parametrize("sample_rate", [16000, 32000])
def test_debug_codec(sample_rate: int) -> None:
    model = builders.get_debug_compression_model(sample_rate=sample_rate)
    codes, _ = model.encode(torch.randn(1, 1, sample_rate))
    assert codes.shape == (1, 4, 25) and model.frame_rate == 25 and model.cardinality == 400 and not model.training
    with pytest.raises(UserError):
        builders.get_debug_compression_model(sample_rate=44100)


def test_only_training_computes_in_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is coded does not hang on a GPU's default of rounding convolutions to TF32."""
    model = tiny_encodec().train()
    seen: list[bool] = []
    for part in (model.encoder, model.decoder):
        part.model[0].register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    x = torch.randn(1, 1, 60)
    model(x)
    assert seen == [True, True]
    model.eval()
    codes, _ = model.encode(x)
    model.decode(codes)
    model(x)
    assert seen[2:] == [False] * 4
    assert torch.backends.cudnn.allow_tf32 is True
