import copy

import pytest
import torch

from audiocraft.errors import UserError
from audiocraft.modules.chunked import plan
from audiocraft.modules.conv import StreamableConv1d, StreamableConvTranspose1d
from audiocraft.modules.seanet import SEANetDecoder, SEANetEncoder

# Lengths with the sizes of the blocks they come in, each once with the end known and once with the end told later.
CUTS = [(1, 1), (2, 1), (3, 1), (5, 2), (6, 1), (7, 3), (12, 7), (13, 5), (29, 1), (61, 7), (157, 50), (157, 500)]
CASES = [(*cut, flush) for cut in CUTS for flush in (False, True)]


def pushed(module: torch.nn.Module, x: torch.Tensor, size: int, flush: bool = False) -> torch.Tensor:
    """The module's output when x comes in blocks of `size`; `flush`: the end comes as a block of nothing."""
    stage = plan(module)
    state = stage.start()
    blocks = list(x.split(size, dim=-1)) + ([x[..., :0]] if flush else [])
    outs = [stage.push(state, block, last=i == len(blocks) - 1) for i, block in enumerate(blocks)]
    return torch.cat(outs, dim=-1)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize(
    "stride, kernel, dilation", [(1, 7, 1), (1, 3, 4), (1, 6, 1), (2, 4, 1), (5, 10, 1), (4, 4, 2)]
)
@torch.no_grad()
def test_convolution(causal: bool, pad_mode: str, stride: int, kernel: int, dilation: int) -> None:
    torch.manual_seed(0)
    conv = StreamableConv1d(2, 3, kernel, stride, dilation, causal=causal, pad_mode=pad_mode, norm="weight_norm")
    for length, size, flush in CASES:
        x = torch.randn(1, 2, length)
        torch.testing.assert_close(pushed(conv, x, size, flush), conv(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("causal, trim", [(False, 1.0), (True, 1.0), (True, 0.5), (True, 0.0)])
@pytest.mark.parametrize("stride, kernel", [(1, 2), (2, 4), (5, 10), (3, 3), (2, 7)])
@torch.no_grad()
def test_transposed_convolution(causal: bool, trim: float, stride: int, kernel: int) -> None:
    torch.manual_seed(0)
    conv = StreamableConvTranspose1d(2, 3, kernel, stride, causal=causal, trim_right_ratio=trim)
    for length, size, flush in CASES:
        x = torch.randn(1, 2, length)
        torch.testing.assert_close(pushed(conv, x, size, flush), conv(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("true_skip", [False, True])
@torch.no_grad()
def test_encoder_and_decoder(causal: bool, pad_mode: str, true_skip: bool) -> None:
    torch.manual_seed(0)
    settings = {"channels": 2, "dimension": 6, "n_filters": 2, "n_residual_layers": 2, "ratios": [5, 3], "lstm": 1}
    settings |= {"causal": causal, "pad_mode": pad_mode, "true_skip": true_skip, "norm": "weight_norm"}
    encoder, decoder = SEANetEncoder(**settings), SEANetDecoder(**settings, final_activation="Tanh")
    for length, size, flush in CASES:
        x = torch.randn(2, 2, length)
        latents = encoder(x)
        torch.testing.assert_close(pushed(encoder, x, size, flush), latents, atol=1e-5, rtol=0)
        torch.testing.assert_close(pushed(decoder, latents, size, flush), decoder(latents), atol=1e-5, rtol=0)


@torch.no_grad()
def test_state_is_an_object_that_can_be_copied() -> None:
    torch.manual_seed(0)
    stage = plan(SEANetDecoder(dimension=4, n_filters=2, n_residual_layers=1, ratios=[3, 2], lstm=1))
    x = torch.randn(1, 4, 20)
    state, other = stage.start(), stage.start()
    stage.push(state, x[..., :9])
    kept = copy.deepcopy(state)
    rest = stage.push(state, x[..., 9:], last=True)
    stage.push(other, torch.randn(1, 4, 5))  # another stream over the same weights changes nothing
    assert torch.equal(stage.push(kept, x[..., 9:], last=True), rest)


@torch.no_grad()
def test_state_does_not_grow() -> None:
    def held(state: object) -> int:
        if isinstance(state, torch.Tensor):
            return state.untyped_storage().nbytes()
        if isinstance(state, list | tuple):
            return sum(held(part) for part in state)
        return sum(held(part) for part in vars(state).values()) if hasattr(state, "__dict__") else 0

    for pad_mode in ("constant", "reflect"):
        stage = plan(SEANetEncoder(n_filters=2, n_residual_layers=1, ratios=[4, 2], pad_mode=pad_mode, lstm=1))
        state = stage.start()
        sizes = []
        for _ in range(6):
            stage.push(state, torch.randn(1, 1, 4000))
            sizes.append(held(state))
        assert len(set(sizes[1:])) == 1 and sizes[-1] < 20_000


@torch.no_grad()
def test_causal_codec_has_no_delay() -> None:
    settings = {"dimension": 4, "n_filters": 2, "n_residual_layers": 1, "ratios": [3, 2], "pad_mode": "constant"}
    delays = {}
    for causal in (True, False):
        stage = plan(SEANetDecoder(**settings, causal=causal))
        state = stage.start()
        delays[causal] = [stage.push(state, torch.randn(1, 4, 1)).shape[-1] for _ in range(8)]
    assert delays[True] == [6] * 8
    assert delays[False][0] == 0 and delays[False][-1] == 6


def test_norm_over_all_time_is_refused() -> None:
    with pytest.raises(UserError, match="time_group_norm"):
        plan(SEANetEncoder(n_filters=2, ratios=[2], norm="time_group_norm"))
