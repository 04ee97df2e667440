"""Single values of a model's config, which may be a stranger's: anything can stand where a number is looked for."""

import typing as tp

if tp.TYPE_CHECKING:
    from omegaconf import DictConfig


def config_text(cfg: "DictConfig", key: str) -> str:
    """A value as text, empty for null and nothing; a reference that leads nowhere as it is written."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        value = cfg.get(key)
    except OmegaConfBaseException:
        content = tp.cast(dict[str, tp.Any], OmegaConf.to_container(cfg, resolve=False))
        value = content[key]
    return "" if value is None else str(value)
