"""The config that travels in an export: the peer's keys, at values that its builders understand, and none of ours."""

import typing as tp

from ..utils.model_config import literal

if tp.TYPE_CHECKING:
    from omegaconf import DictConfig

# Our additions to the tree. Playing does not need them and the peer does not know them.
OUR_KEYS = (
    "adversarial.start",
    "checkpoint.every_minutes",
    "dataset.short",
    "dora",  # where this machine keeps its runs, and which of our keys leave the signature alone
    "init_from_codec",
    "logging.progress",
    "tokens.cache",
)
# Our values that the peer would stumble over, and what it would write there.
PEER_VALUES = {
    "device": ("auto", "cuda"),
    "autocast_dtype": ("auto", "float16"),
    "rvq.threshold_ema_dead_code": ("auto", 2),
}


def export_config(cfg: "DictConfig") -> str:
    """`xp.cfg` of an export, as YAML text.

    What the peer has and we do not is there at its defaults: without `transformer_lm.memory_efficient`, say, it builds
    another attention, whose weights have other names. `conditioners` is `{}` where there are none: its loader looks
    into it and fails on null.
    """
    from omegaconf import OmegaConf, open_dict

    from ..utils.peer_keys import add_peer_keys

    cfg = add_peer_keys(cfg)
    with open_dict(cfg):
        for key in OUR_KEYS:
            _drop(cfg, key)
        for key, (ours, theirs) in PEER_VALUES.items():
            if OmegaConf.select(cfg, key) == ours:
                OmegaConf.update(cfg, key, theirs)
        if "transformer_lm" in cfg:
            cfg.conditioners = cfg.get("conditioners") or {}
    return OmegaConf.to_yaml(cfg)


def with_codec(text: str, name: str) -> str:
    """A language model's config, YAML text, that names this codec."""
    return with_value(text, "compression_model_checkpoint", literal(name))


def without_null_conditioners(text: str) -> str:
    """A language model's config, YAML text, with `conditioners: {}` for null or nothing."""
    return text if _content(text).get("conditioners") is not None else with_value(text, "conditioners", {})


def with_value(text: str, key: str, value: tp.Any) -> str:
    """A config, YAML text, with another value of one of its own keys; all others stay as they are written."""
    from omegaconf import OmegaConf

    content = _content(text)
    return text if content.get(key) == value else OmegaConf.to_yaml(OmegaConf.create({**content, key: value}))


def _content(text: str) -> dict[str, tp.Any]:
    """A config as plain data: to look up a value in OmegaConf's own form may be to look into the environment."""
    from omegaconf import OmegaConf

    return tp.cast(dict[str, tp.Any], OmegaConf.to_container(OmegaConf.create(text), resolve=False))


def _drop(cfg: "DictConfig", key: str) -> None:
    *parents, name = key.split(".")
    node: tp.Any = cfg
    for parent in parents:
        node = node.get(parent) if node is not None else None
    if node is not None:
        node.pop(name, None)
