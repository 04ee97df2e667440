"""Devices and the precision they compute in."""

import logging
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from audiocraft.errors import UserError
from audiocraft.utils import device as devices
from audiocraft.utils.device import codec_device, full_float32, resolve_device, upload


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


class Cards:
    """What `torch.cuda` says of some cards, and which of them was made the current one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capabilities: list[tuple[int, int]], arches: str) -> None:
        self.current = 0

        def index(device: Any) -> int:
            return torch.device(device).index or 0

        for name, stand_in in {
            "is_available": lambda: True,
            "device_count": lambda: len(capabilities),
            "get_arch_list": arches.split,
            "get_device_capability": lambda device: capabilities[index(device)],
            "get_device_name": lambda device: f"Card {index(device)}",
            "set_device": lambda device: setattr(self, "current", index(device)),
        }.items():
            monkeypatch.setattr(torch.cuda, name, stand_in)


@pytest.mark.parametrize(
    ("capability", "arches", "fits"),
    [
        ((8, 6), "sm_75 sm_80 sm_86", True),
        ((8, 9), "sm_75 sm_86", True),
        ((8, 0), "sm_75 sm_86", False),
        ((6, 1), "sm_75 sm_80 sm_90", False),
        ((12, 0), "sm_80 sm_90", False),
        ((12, 0), "sm_80 sm_90 compute_90", True),
        ((9, 0), "sm_90a", True),
        ((12, 0), "sm_100 sm_120f", True),
        ((6, 1), "gfx90a gfx1100", True),
    ],
)
def test_a_card_is_taken_where_torch_has_kernels_for_it(
    capability: tuple[int, int],
    arches: str,
    fits: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    Cards(monkeypatch, [capability], arches)
    devices._say_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert resolve_device("auto").type == resolve_device(None).type == ("cuda" if fits else "cpu")
    assert len(caplog.messages) == (0 if fits else 1)
    if fits:
        assert resolve_device("cuda") == torch.device("cuda")
    else:
        assert "no kernels for Card 0" in caplog.text and "pytorch.org" in caplog.text
        with pytest.raises(UserError, match=r"device=cuda was .* no kernels for Card 0 .*; use device=cpu") as told:
            resolve_device("cuda")
        assert "\n" not in str(told.value)


def test_the_card_that_was_asked_for_becomes_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = Cards(monkeypatch, [(8, 6), (6, 1), (8, 6)], "sm_86")
    assert resolve_device("cuda") == torch.device("cuda") and cards.current == 0
    assert resolve_device("cuda:2") == torch.device("cuda:2") and cards.current == 2
    with pytest.raises(UserError, match="no kernels for Card 1"):
        resolve_device("cuda:1")
    with pytest.raises(UserError, match="the last one here is cuda:2"):
        resolve_device("cuda:9")
    assert cards.current == 2


def test_codecs_stay_off_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto").type == "mps"
    assert codec_device("auto") == codec_device("mps") == codec_device(torch.device("mps")) == torch.device("cpu")
    Cards(monkeypatch, [(8, 6)], "sm_86")
    assert codec_device("auto") == torch.device("cuda")


@pytest.mark.parametrize("pinned", [False, True])
def test_what_goes_to_a_gpu_is_pinned_and_not_waited_for(pinned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    to = torch.Tensor.to

    def copied(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        asked.append(f"to {args[0]} {kwargs}")
        return to(tensor, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda tensor: pinned)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: (asked.append("pin"), tensor)[1])
    monkeypatch.setattr(torch.Tensor, "to", copied)
    with FakeTensorMode():
        assert upload(torch.zeros(3), torch.device("cuda:0")).device == torch.device("cuda:0")
    assert asked == ["pin"] * (not pinned) + ["to cuda:0 {'non_blocking': True}"]
    here = torch.zeros(3)
    assert upload(here, torch.device("cpu")) is here
