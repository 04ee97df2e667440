import copy
import pickle

import pytest
import torch
from torch import nn

from audiocraft.errors import UserError
from audiocraft.modules.conv import (
    NormConv1d,
    NormConv2d,
    NormConvTranspose1d,
    NormConvTranspose2d,
    StreamableConv1d,
    StreamableConvTranspose1d,
    get_extra_padding_for_conv1d,
    pad1d,
    pad_for_conv1d,
    unpad1d,
)

KINDS = [
    (NormConv1d, nn.Conv1d, "conv"),
    (NormConvTranspose1d, nn.ConvTranspose1d, "convtr"),
    (NormConv2d, nn.Conv2d, "conv"),
    (NormConvTranspose2d, nn.ConvTranspose2d, "convtr"),
]


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 100])
@pytest.mark.parametrize("stride", [1, 2, 5])
def test_extra_padding_fills_the_last_window(length: int, stride: int) -> None:
    kernel, total = 2 * stride, stride
    padded = pad_for_conv1d(torch.ones(1, 1, length), kernel, stride, total)
    assert padded.shape[-1] == length + get_extra_padding_for_conv1d(torch.ones(1, 1, length), kernel, stride, total)
    assert (padded.shape[-1] + total - kernel) % stride == 0
    assert padded.shape[-1] - length < stride


def test_pad1d_modes() -> None:
    x = torch.tensor([[[1.0, 2.0, 3.0]]])
    assert pad1d(x, (1, 2)).tolist() == [[[0, 1, 2, 3, 0, 0]]]
    assert pad1d(x, (2, 1), "reflect").tolist() == [[[3, 2, 1, 2, 3, 2]]]
    # Too short to be mirrored three times: one zero is put behind it, and one sample is cut from the end.
    assert pad1d(x, (3, 0), "reflect").tolist() == [[[0, 3, 2, 1, 2, 3]]]
    assert unpad1d(pad1d(x, (4, 3)), (4, 3)).tolist() == x.tolist()


@pytest.mark.parametrize("paddings", [(-1, 0), (0, -1), (-2, -2)])
def test_negative_paddings_are_refused(paddings: tuple[int, int]) -> None:
    """By what the peer's callers catch, too: it asserts."""
    for pad in (pad1d, unpad1d):
        with pytest.raises(UserError, match="0 or more"):
            pad(torch.ones(1, 1, 9), paddings)
        with pytest.raises(AssertionError):
            pad(torch.ones(1, 1, 9), paddings)
    assert unpad1d(torch.ones(1, 1, 9), (4, 5)).shape == (1, 1, 0)
    with pytest.raises(UserError, match="cannot be cut"):
        unpad1d(torch.ones(1, 1, 9), (5, 5))


@pytest.mark.parametrize("kind, base, attribute", KINDS)
def test_norms_of_all_convolutions(kind, base, attribute) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, *[9] * (2 if "2d" in kind.__name__ else 1))
    expected = None
    for norm in ("none", "weight_norm", "spectral_norm", "time_group_norm"):
        torch.manual_seed(1)
        module = kind(3, 5, 4, stride=2, norm=norm, norm_kwargs={"eps": 1e-3} if norm == "time_group_norm" else None)
        conv = getattr(module, attribute)
        assert isinstance(conv, base) and module.norm_type == norm
        assert isinstance(module.norm, nn.GroupNorm if norm == "time_group_norm" else nn.Identity)
        y = module(x)
        y.sum().backward()
        expected = base(3, 5, 4, stride=2)(x).shape if expected is None else expected
        assert y.shape == expected
        torch.testing.assert_close(copy.deepcopy(module.eval())(x), module(x))
        if norm != "spectral_norm":  # torch's own, which is no class that a file can name
            torch.testing.assert_close(pickle.loads(pickle.dumps(module))(x), module(x))
    with pytest.raises(UserError, match="unknown convolution norm"):
        kind(3, 5, 4, norm="batch")


def test_spectral_norm_bounds_the_gain() -> None:
    torch.manual_seed(0)
    module = NormConv1d(4, 6, 1, norm="spectral_norm")
    with torch.no_grad():
        module.conv.parametrizations.weight.original.mul_(9)
        for _ in range(50):
            module(torch.randn(1, 4, 3))
    assert torch.linalg.matrix_norm(module.eval().conv.weight[..., 0], 2).item() == pytest.approx(1, abs=1e-3)


def test_weight_norm_keeps_the_function_and_takes_its_gradient() -> None:
    torch.manual_seed(0)
    plain = NormConv1d(3, 5, 4)
    torch.manual_seed(0)
    normed = NormConv1d(3, 5, 4, norm="weight_norm")
    assert list(normed.state_dict()) == ["conv.bias", "conv.weight_g", "conv.weight_v"]
    x = torch.randn(2, 3, 20)
    torch.testing.assert_close(normed(x), plain(x))
    with torch.no_grad():
        normed.conv.weight_g.mul_(2)
    torch.testing.assert_close(normed.conv.weight, 2 * plain.conv.weight)
    normed(x).square().sum().backward()
    assert normed.conv.weight_g.grad.abs().min() > 0
    # The direction's gradient is orthogonal to it: its length does not matter.
    assert (normed.conv.weight_v.grad * normed.conv.weight_v).sum((1, 2)).abs().max() < 1e-3
    copy.deepcopy(normed)  # possible at any time, also right after a step


def test_time_group_norm_has_one_group_and_is_never_causal() -> None:
    conv = StreamableConv1d(2, 4, 3, norm="time_group_norm")
    assert isinstance(conv.conv.norm, nn.GroupNorm) and conv.conv.norm.num_groups == 1
    assert "conv.norm.weight" in conv.state_dict()
    for error in (UserError, ValueError):
        with pytest.raises(error, match="weight_norm"):
            StreamableConv1d(2, 4, 3, norm="time_group_norm", causal=True)


@pytest.mark.parametrize(
    "build",
    [
        lambda: StreamableConv1d(1, 1, 3, norm="layer_nrom"),
        lambda: StreamableConv1d(1, 1, 3, pad_mode="circular"),
        lambda: StreamableConv1d(1, 1, 2, stride=3),
        lambda: StreamableConvTranspose1d(1, 1, 4, 2, trim_right_ratio=0.5),
        lambda: StreamableConvTranspose1d(1, 1, 4, 2, causal=True, trim_right_ratio=1.5),
        lambda: StreamableConvTranspose1d(1, 1, 1, 2),
    ],
)
def test_impossible_convolutions_say_what_to_do(build) -> None:
    with pytest.raises(UserError):
        build()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("stride", [1, 2, 5])
@pytest.mark.parametrize("length", [1, 2, 3, 10, 31])
def test_lengths(causal: bool, pad_mode: str, stride: int, length: int) -> None:
    down = StreamableConv1d(1, 2, 2 * stride, stride, causal=causal, pad_mode=pad_mode)
    up = StreamableConvTranspose1d(2, 1, 2 * stride, stride, causal=causal)
    frames = down(torch.randn(1, 1, length))
    assert frames.shape == (1, 2, -(-length // stride))
    assert up(frames).shape == (1, 1, frames.shape[-1] * stride)


def test_padding_inside_the_kernel_equals_padding_before_it() -> None:
    conv = StreamableConv1d(2, 3, 7, pad_mode="constant")
    x = torch.randn(1, 2, 40)
    torch.testing.assert_close(conv(x), conv.conv(pad1d(x, (3, 3))))


def test_fresh_layers_keep_the_level_of_the_signal() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 32, 400)
    for layer in (
        StreamableConv1d(32, 32, 7, norm="weight_norm"),
        StreamableConv1d(32, 32, 8, 4),
        StreamableConvTranspose1d(32, 32, 8, 4),
        StreamableConvTranspose1d(32, 32, 10, 5, norm="weight_norm"),
    ):
        assert 0.8 < layer(x).std().item() < 1.25
