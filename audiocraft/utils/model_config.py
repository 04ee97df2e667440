"""Single values of a model's config, which may be a stranger's: anything can stand where a number is looked for."""

import re
import typing as tp

from ..errors import UserError

if tp.TYPE_CHECKING:
    from omegaconf import DictConfig


def literal(text: str) -> str:
    """The value of a config that OmegaConf reads as `text` where that holds `${`, as a folder's name may."""
    return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", text)


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


def trained_rate(cfg: "DictConfig") -> float | None:
    """Sample rate that a language model was trained at, Hz; None where the config does not say.

    Raises:
        UserError: it says something that is no rate.
    """
    return _number(cfg, "sample_rate")


def trained_reach(cfg: "DictConfig") -> float | None:
    """Seconds of the segments that a language model was trained on; as `trained_rate`."""
    return _number(cfg, "dataset", "segment_duration")


def _number(cfg: "DictConfig", *keys: str) -> float | None:
    from omegaconf.errors import OmegaConfBaseException

    node: tp.Any = cfg
    try:
        for key in keys:
            node = node.get(key) if node is not None else None
        number = float(node or 0)
        if not 0 <= number < float("inf"):
            raise ValueError
    except (AttributeError, TypeError, ValueError, OmegaConfBaseException) as error:
        raise UserError(f"its {'.'.join(keys)} is no number above 0; export the model again") from error
    return number or None
