"""Keys of the peer's configuration that are not served here."""

from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..environment import resource_dir


@cache
def _table() -> dict[str, dict[str, Any]]:
    table: Any = OmegaConf.to_container(OmegaConf.load(resource_dir("config") / "peer_only.yaml"), resolve=False)
    return table


def peer_only_keys(solver: str | None = None) -> dict[str, Any]:
    """Keys that are not served, with the peer's defaults.

    Args:
        solver: musicgen or compression; None for the keys of all solvers.
    """
    table = _table()
    solvers = [solver] if solver in ("musicgen", "compression") else ["musicgen", "compression"]
    return {key: value for part in ("all", *solvers) for key, value in table[part].items()}


def ignored_keys() -> dict[str, Any]:
    """Keys of the peer that mean nothing here and are accepted at any value, with the peer's usual values."""
    return _table()["ignored"]


def add_peer_keys(cfg: DictConfig) -> DictConfig:
    """A copy of `cfg` that also holds the keys the peer's builders expect, at the peer's defaults."""
    full = OmegaConf.create(OmegaConf.to_container(cfg, resolve=False))
    assert isinstance(full, DictConfig)
    for key, value in peer_only_keys(cfg.get("solver")).items():
        section, _, name = key.rpartition(".")
        node = OmegaConf.select(full, section) if section else full
        if node is None or name not in node:
            OmegaConf.update(full, key, value, force_add=True)
    return full
