import pytest
import torch

from audiocraft.errors import UserError
from audiocraft.modules.lstm import StreamableLSTM
from audiocraft.modules.seanet import SEANetDecoder, SEANetEncoder, SEANetResnetBlock

SMALL = {"channels": 1, "dimension": 6, "n_filters": 2, "n_residual_layers": 2, "ratios": [3, 2], "lstm": 1}


@pytest.mark.parametrize("length", [1, 5, 6, 7, 100])
@pytest.mark.parametrize("causal", [False, True])
def test_shapes(length: int, causal: bool) -> None:
    encoder, decoder = SEANetEncoder(**SMALL, causal=causal), SEANetDecoder(**SMALL, causal=causal)
    assert encoder.hop_length == decoder.hop_length == 6
    latents = encoder(torch.randn(2, 1, length))
    assert latents.shape == (2, 6, -(-length // 6))
    assert decoder(latents).shape == (2, 1, latents.shape[-1] * 6)


def test_causal_codec_does_not_look_ahead() -> None:
    torch.manual_seed(0)
    settings = {**SMALL, "causal": True, "pad_mode": "constant"}
    encoder, decoder = SEANetEncoder(**settings), SEANetDecoder(**settings)
    x = torch.randn(1, 1, 120, requires_grad=True)
    latents = encoder(x)
    latents[..., 9].sum().backward()
    assert x.grad is not None
    # Frame 9 ends with sample 59 and may hang on none after it, and does hang on that one.
    assert x.grad[..., 60:].abs().max() == 0 and x.grad[..., 59].abs() > 0
    z = latents.detach().requires_grad_()
    decoder(z)[..., 59].sum().backward()
    assert z.grad is not None
    assert z.grad[..., 10:].abs().max() == 0 and z.grad[..., 9].abs().max() > 0


def test_symmetric_codec_looks_ahead() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 1, 120, requires_grad=True)
    SEANetEncoder(**{**SMALL, "lstm": 0})(x)[..., 9].sum().backward()
    assert x.grad is not None and x.grad[..., 60:].abs().max() > 0


def test_skip_connection_of_block_and_lstm() -> None:
    block = SEANetResnetBlock(4)
    lstm = StreamableLSTM(4, 1)
    with torch.no_grad():
        for parameter in [*block.block.parameters(), *lstm.parameters()]:
            parameter.zero_()
    x = torch.randn(1, 4, 9)
    assert torch.equal(block(x), x) and torch.equal(lstm(x), x)
    learned = SEANetResnetBlock(4, true_skip=False)
    assert "shortcut.conv.conv.weight" in learned.state_dict()


def test_lstm_goes_on_where_it_stopped() -> None:
    torch.manual_seed(0)
    lstm = StreamableLSTM(4, 2)
    x = torch.randn(2, 4, 20)
    first, memory = lstm.step(x[..., :7], None)
    second, _ = lstm.step(x[..., 7:], memory)
    torch.testing.assert_close(torch.cat([first, second], dim=-1), lstm(x))


def test_norm_can_be_left_out_near_the_wave() -> None:
    def normed(model: torch.nn.Module) -> set[int]:
        return {int(key.split(".")[1]) for key in model.state_dict() if key.endswith("weight_g")}

    settings = {**SMALL, "n_residual_layers": 0, "norm": "weight_norm", "lstm": 0}
    # Convolutions sit at 0, 2, 4 and 6, in the encoder (wave first) as in the decoder (wave last).
    assert normed(SEANetEncoder(**settings)) == normed(SEANetDecoder(**settings)) == {0, 2, 4, 6}
    assert normed(SEANetEncoder(**settings, disable_norm_outer_blocks=2)) == {4, 6}
    assert normed(SEANetDecoder(**settings, disable_norm_outer_blocks=2)) == {0, 2}
    assert normed(SEANetEncoder(**settings, disable_norm_outer_blocks=4)) == set()
    with pytest.raises(UserError, match="4 blocks"):
        SEANetEncoder(**settings, disable_norm_outer_blocks=5)
    for kind in (SEANetEncoder, SEANetDecoder):
        model = kind(**settings, disable_norm_outer_blocks=1)
        assert model.n_blocks == 4
        with pytest.raises(AssertionError):
            kind(**settings, disable_norm_outer_blocks=-1)
    with pytest.raises(UserError, match="as many of each"):
        SEANetResnetBlock(4, kernel_sizes=(3, 1), dilations=(1,))


def test_final_activation_and_unknown_ones() -> None:
    decoder = SEANetDecoder(**SMALL, final_activation="Tanh")
    assert decoder(100 * torch.randn(1, 6, 4)).abs().max() <= 1
    with pytest.raises(UserError, match="ELUU"):
        SEANetEncoder(**SMALL, activation="ELUU")
