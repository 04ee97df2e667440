import pytest
import torch

from audiocraft.errors import UserError
from audiocraft.modules.chunked import Pieces, StreamState
from audiocraft.modules.seanet import SEANetDecoder, SEANetEncoder

# Lengths with the sizes of the blocks they come in, each once with the end known and once with the end told later.
CUTS = [(1, 1), (2, 1), (3, 1), (5, 2), (6, 1), (7, 3), (12, 7), (13, 5), (29, 1), (61, 7), (157, 50), (157, 500)]
CASES = [(*cut, flush) for cut in CUTS for flush in (False, True)]
KINDS = [
    {"lstm": 1},
    {"lstm": 0, "true_skip": False},
    {"kernel_size": 6, "last_kernel_size": 4, "dilation_base": 3, "lstm": 2},
    {"ratios": [2, 3], "kernel_size": 3, "residual_kernel_size": 5},
    {"ratios": [4], "n_residual_layers": 0, "lstm": 1},
]


def pushed(module: SEANetEncoder | SEANetDecoder, x: torch.Tensor, size: int, flush: bool = False) -> torch.Tensor:
    """The module's output when x comes in blocks of `size`; `flush`: the end comes as a block of nothing."""
    pieces, state = Pieces(module), StreamState()
    blocks = list(x.split(size, dim=-1)) + ([x[..., :0]] if flush else [])
    outs = [pieces.push(state, block, last=i == len(blocks) - 1) for i, block in enumerate(blocks)]
    return torch.cat(outs, dim=-1)


@pytest.mark.parametrize("causal, trim", [(False, 1.0), (True, 1.0), (True, 0.5), (True, 0.0)])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
@torch.no_grad()
def test_pieces_equal_the_whole(causal: bool, trim: float, pad_mode: str, kind: dict) -> None:
    torch.manual_seed(0)
    settings = {"channels": 2, "dimension": 6, "n_filters": 2, "n_residual_layers": 2, "ratios": [5, 3], **kind}
    settings |= {"causal": causal, "pad_mode": pad_mode, "norm": "weight_norm"}
    encoder = SEANetEncoder(**settings)
    decoder = SEANetDecoder(**settings, final_activation="Tanh", trim_right_ratio=trim)
    for length, size, flush in CASES:
        x, latents = torch.randn(2, 2, length), torch.randn(2, 6, length)
        torch.testing.assert_close(pushed(encoder, x, size, flush), encoder(x), atol=1e-5, rtol=0)
        torch.testing.assert_close(pushed(decoder, latents, size, flush), decoder(latents), atol=1e-5, rtol=0)


@torch.no_grad()
def test_state_can_be_copied() -> None:
    torch.manual_seed(0)
    pieces = Pieces(SEANetDecoder(dimension=4, n_filters=2, n_residual_layers=1, ratios=[3, 2], lstm=1))
    x = torch.randn(1, 4, 20)
    state = StreamState()
    pieces.push(state, x[..., :9])
    kept = dict(state)
    rest = pieces.push(state, x[..., 9:], last=True)
    pieces.push({}, torch.randn(1, 4, 5))  # another stream over the same weights changes nothing
    assert torch.equal(pieces.push(kept, x[..., 9:], last=True), rest)


@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@torch.no_grad()
def test_state_does_not_grow(pad_mode: str) -> None:
    pieces = Pieces(SEANetEncoder(n_filters=2, n_residual_layers=1, ratios=[4, 2], pad_mode=pad_mode, lstm=1))
    state, sizes = StreamState(), []
    for _ in range(6):
        pieces.push(state, torch.randn(1, 1, 4000))
        held = [part for part in state.values() if isinstance(part, torch.Tensor)]
        sizes.append(sum(part.untyped_storage().nbytes() for part in held))
    assert len(set(sizes[1:])) == 1 and sizes[-1] < 20_000


@torch.no_grad()
def test_causal_codec_has_no_delay() -> None:
    settings = {"dimension": 4, "n_filters": 2, "n_residual_layers": 1, "ratios": [3, 2], "pad_mode": "constant"}
    delays = {}
    for causal in (True, False):
        pieces, state = Pieces(SEANetDecoder(**settings, causal=causal)), StreamState()
        delays[causal] = [pieces.push(state, torch.randn(1, 4, 1)).shape[-1] for _ in range(8)]
    assert delays[True] == [6] * 8
    assert delays[False][0] == 0 and delays[False][-1] == 6


def test_norm_over_all_time_is_refused() -> None:
    with pytest.raises(UserError, match="time_group_norm"):
        Pieces(SEANetEncoder(n_filters=2, ratios=[2], norm="time_group_norm"))
