"""Golden set configs/: the peer's commands compose to the same configuration here, but for what the page lists."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from audiocraft import train
from audiocraft.errors import UserError
from audiocraft.utils.config import add_peer_keys, ignored_keys, peer_only_keys

from .compatibility import covers, rows

CONFIGS = Path(__file__).parents[1] / "golden" / "configs"
OVERRIDES: dict[str, list[str]] = json.loads((CONFIGS / "overrides.json").read_text())
OURS = {name for row in rows("Keys that are ours") for name in row.names}
CHANGED = {row.names[0]: row.cells[1:3] for row in rows("Keys with another default")}
LEFT_OUT = [name for row in rows("Keys that are not served") for name in row.names]


def leaves(node: dict, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value; empty dicts are values."""
    out: dict[str, Any] = {}
    for key, value in node.items():
        name = f"{prefix}{key}"
        out |= leaves(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
    return out


def theirs(name: str, resolve: bool = False) -> dict[str, Any]:
    return leaves(yaml.safe_load((CONFIGS / f"{name}{'.resolved' if resolve else ''}.yaml").read_text()))


def ours(name: str, resolve: bool = False) -> dict[str, Any]:
    cfg: Any = OmegaConf.to_container(train.main.make_xp(OVERRIDES[name]).cfg, resolve=resolve)
    return leaves(cfg)


def is_left_out(key: str) -> bool:
    return any(covers(pattern, key) for pattern in LEFT_OUT)


@pytest.mark.parametrize("resolve", [False, True])
@pytest.mark.parametrize("name", OVERRIDES)
def test_every_difference_is_on_the_page(name: str, resolve: bool) -> None:
    """As it is written, and with all references looked up."""
    peer, here = theirs(name, resolve), ours(name, resolve)
    assert [key for key in peer.keys() - here.keys() if not is_left_out(key)] == []
    assert here.keys() - peer.keys() <= OURS
    assert [key for key in here if is_left_out(key)] == []
    for key in here.keys() & peer.keys():
        assert (here[key] == peer[key]) or key in CHANGED, key


def test_the_page_tells_the_truth() -> None:
    """Every key it names is a difference of some command, with the values it gives."""
    both = [(theirs(name), ours(name)) for name in OVERRIDES]
    for key in OURS:
        assert any(key in here and key not in peer for peer, here in both), key
    for pattern in LEFT_OUT:
        assert any(covers(pattern, key) and key not in here for peer, here in both for key in peer), pattern
    for key, cells in CHANGED.items():
        assert any(key in here and here[key] != peer.get(key) for peer, here in both), key
        for cell, config in zip(cells, (1, 0)):
            if cell.startswith("`"):
                value = yaml.safe_load(cell.split("`")[1])
                assert any(pair[config].get(key, "none") == value for pair in both), (key, cell)


@pytest.mark.parametrize("name", OVERRIDES)
def test_the_table_of_left_out_keys_is_the_peers(name: str) -> None:
    peer = theirs(name)
    for key, value in peer_only_keys(peer["solver"]).items():
        assert is_left_out(key), f"{key} is not on the page"
        flat = leaves({key: value}) if isinstance(value, dict) and value else {key: value}
        assert all(peer[name] == default for name, default in flat.items()), key


@pytest.mark.parametrize("name", OVERRIDES)
def test_exports_have_all_keys_of_the_peer(name: str) -> None:
    full: Any = add_peer_keys(train.main.make_xp(OVERRIDES[name]).cfg)
    missing = theirs(name).keys() - leaves(full).keys()
    assert missing <= ignored_keys().keys()


@pytest.mark.parametrize("solver", ["musicgen", "compression"])
def test_left_out_keys_at_the_peers_default_are_accepted(solver: str) -> None:
    plain = train.main.make_xp([f"solver={solver}/debug"])
    table = {key: value for key, value in peer_only_keys(solver).items() if not isinstance(value, dict)}
    given = [f"{key}={json.dumps(value) if not isinstance(value, str) else value}" for key, value in table.items()]
    assert train.main.make_xp([f"solver={solver}/debug", *given, "datasource.max_channels=7"]).sig == plain.sig


@pytest.mark.parametrize("solver", ["musicgen", "compression"])
def test_left_out_keys_at_another_value_are_refused_in_one_line(solver: str) -> None:
    for key, value in peer_only_keys(solver).items():
        other = {True: "false", False: "true"}[value] if isinstance(value, bool) else "7"
        with pytest.raises(UserError) as caught:
            train.main.make_xp([f"solver={solver}/debug", f"{key}={other}"])
        message = str(caught.value)
        assert message.startswith(key) and "only its default is accepted" in message and "\n" not in message
