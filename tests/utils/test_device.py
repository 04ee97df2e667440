"""Devices and the precision they compute in."""

from typing import Any

import pytest
import torch

from audiocraft.utils.device import full_float32


def precision() -> tuple[Any, Any]:
    """What convolutions and LSTMs of float32 tensors compute in."""
    cudnn: Any = torch.backends.cudnn
    if hasattr(cudnn, "conv"):
        return cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision
    return cudnn.allow_tf32, cudnn.allow_tf32


def test_full_float32_is_put_back() -> None:
    before = precision()
    with full_float32():
        assert precision() in (("ieee", "ieee"), (False, False))
        assert torch.backends.cudnn.allow_tf32 is False
        with full_float32():
            pass
        assert torch.backends.cudnn.allow_tf32 is False
    assert precision() == before
    with pytest.raises(ValueError, match="inside"), full_float32():
        raise ValueError("inside")
    assert precision() == before


@pytest.mark.parametrize("allowed", [True, False])
def test_full_float32_knows_the_old_switch(allowed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
    with full_float32():
        assert torch.backends.cudnn.allow_tf32 is False
    assert torch.backends.cudnn.allow_tf32 is allowed


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="torch before 2.9 has one switch only")
def test_full_float32_leaves_switches_set_apart_as_they_are() -> None:
    cudnn: Any = torch.backends.cudnn
    before = precision()
    try:
        cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = "ieee", "tf32"
        with full_float32():
            assert precision() == ("ieee", "ieee")
        assert precision() == ("ieee", "tf32")
    finally:
        cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = before
