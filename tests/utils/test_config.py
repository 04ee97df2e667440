"""Nodes of a config against what is built of them: the declared parameters are the only list of keys and kinds."""

import typing as tp
from collections.abc import Mapping, Sequence

import pytest

from audiocraft.errors import UserError
from audiocraft.utils.config import check_node


def build(
    width: int,
    ratios: Sequence[int] = (),
    kernel: tuple[int, int] = (3, 9),
    lstm: int = 0,
    dropout: float = 0.0,
    norm: str = "none",
    causal: bool = False,
    params: dict[str, tp.Any] | None = None,
    shares: Mapping[str, float] | None = None,
    device: str = "cpu",
) -> None:
    """What a node is given to."""


@pytest.mark.parametrize(
    "more",
    [
        {"ratios": [8, 5], "kernel": [3, 9], "lstm": 0, "dropout": 1, "norm": "x", "causal": True},
        {"params": None, "shares": {"a": 0.5, "b": 1}},
        {"params": {"anything": [1, "x"]}},
    ],
)
def test_what_fits(more: dict) -> None:
    check_node("node", {"width": 4, **more}, build, but=["device"])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, r"node\.width is missing; it takes a whole number from 1"),
        ({"width": 0}, r"node\.width is 0; it takes a whole number from 1"),
        ({"width": 10**30}, "it takes a whole number"),
        ({"width": 2.0}, "it takes a whole number"),
        ({"width": True}, "it takes a whole number"),
        ({"width": None}, r"node\.width is null"),
        ({"ratios": [0, 2]}, r"node\.ratios is \[0, 2\]; it takes a list"),
        ({"ratios": 3}, "it takes a list"),
        ({"kernel": [3]}, "it takes a list"),
        ({"lstm": -1}, "it takes a whole number from 0"),
        ({"dropout": 1.5}, "it takes a number"),
        ({"dropout": float("nan")}, "it takes a number"),
        ({"norm": None}, "it takes a text"),
        ({"causal": 1}, "it takes true or false"),
        ({"params": "x"}, "it takes keys of its own, or null"),
        ({"params": {5: 1}}, "it takes keys of its own"),
        ({"shares": {"a": "x"}}, "it takes keys of its own"),
        ({"wings": 2}, r"unknown key 'node\.wings'; known are causal, dropout, kernel, "),
        ({"device": "cpu"}, r"unknown key 'node\.device'"),
    ],
)
def test_what_does_not(given: dict, told: str) -> None:
    node = given if given == {} or "width" in given else {"width": 4, **given}
    with pytest.raises(UserError, match=told):
        check_node("node", node, build, but=["device"])
