"""Values of a configuration that no run can be made of, told before anything is built or trained."""

import math
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..errors import UserError

# Whole numbers: the least one, and whether null is taken too. Keys that a solver does not have are passed over.
_COUNTS = {
    "optim.epochs": (1, False),
    "optim.updates_per_epoch": (0, True),
    "optim.ema.updates": (1, False),
    "dataset.batch_size": (1, False),
    "dataset.num_samples": (0, True),
    "dataset.num_workers": (0, False),
    **{f"dataset.{split}.batch_size": (1, True) for split in ("train", "valid", "evaluate", "generate")},
    **{f"dataset.{split}.num_samples": (0, True) for split in ("train", "valid", "evaluate", "generate")},
    "generate.num_workers": (0, False),
    "generate.every": (0, True),
    "generate.lm.top_k": (0, False),
    "evaluate.every": (0, True),
    "checkpoint.save_every": (0, True),
    "checkpoint.keep_last": (0, True),
    "num_threads": (1, True),
    "sample_rate": (1, False),
    "channels": (1, False),
    **{f"transformer_lm.{key}": (1, False) for key in ("dim", "num_heads", "num_layers", "n_q", "card")},
    **{f"seanet.{key}": (1, False) for key in ("dimension", "n_filters")},
    **{f"rvq.{key}": (1, False) for key in ("n_q", "bins")},
    "adversarial.every": (1, False),
    "adversarial.start": (0, False),
    **{f"mel.{key}": (1, False) for key in ("n_fft", "hop_length", "n_mels")},
    "mel.win_length": (1, True),
    # Windows of 2^range_start samples on, with hops of a quarter of that.
    "msspec.range_start": (2, False),
    "msspec.range_end": (3, False),
    "msspec.n_mels": (1, False),
}
# Numbers: the least one, whether it is taken itself, the largest one, and whether null is taken too.
_NUMBERS = {
    "optim.lr": (0, True, math.inf, False),
    "optim.max_norm": (0, True, math.inf, True),
    "optim.adam.eps": (0, True, math.inf, False),
    "optim.adam.weight_decay": (0, True, math.inf, False),
    "optim.ema.decay": (0, True, 1, False),
    "dataset.segment_duration": (0, False, math.inf, True),
    "generate.lm.temp": (0, True, math.inf, False),
    "generate.lm.top_p": (0, True, 1, False),
    "generate.lm.gen_duration": (0, True, math.inf, True),
    "checkpoint.every_minutes": (0, True, math.inf, True),
    "transformer_lm.dropout": (0, True, 1, False),
    "init_from_codec": (0, True, 1, False),
    **{f"{name}.f_min": (0, True, math.inf, False) for name in ("mel", "msspec")},
    **{f"{name}.floor_level": (0, False, math.inf, False) for name in ("mel", "msspec")},
}
_CHOICES = {
    "generate.audio.format": ("wav", "flac", "ogg", "mp3"),
    "generate.audio.strategy": ("peak", "clip", "rms", "loudness", "none"),
    "logging.level": ("DEBUG", "INFO", "WARNING", "ERROR"),
    "logging.progress": ("auto", "bar", "lines", "off"),
    "mp_start_method": ("forkserver", "spawn", "fork"),
}


def check_settings(cfg: DictConfig) -> None:
    """Look at the values that would otherwise fail late, or somewhere where nobody knows the key.

    Raises:
        UserError: a value is still to be given, or out of its range; the message names the key and what it takes.
    """
    # Audio has a message of its own.
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    missing = [key for key in _missing(plain) if not key.startswith("datasource.")]
    if missing:
        raise UserError(
            f"no value was given for {', '.join(missing)}; add {missing[0]}=VALUE, or choose a whole recipe such as "
            "solver=musicgen/micro_32khz"
        )
    for key, (least, nullable) in _COUNTS.items():
        value = _select(cfg, key)
        if not (value is _ABSENT or (value is None and nullable) or (_is_whole(value) and value >= least)):
            raise UserError(f"{key}={_text(value)}: this takes a whole number from {least} up{_or_null(nullable)}")
    for key, (low, inclusive, high, nullable) in _NUMBERS.items():
        value = _select(cfg, key)
        if value is _ABSENT or (value is None and nullable):
            continue
        if not _is_number(value) or not low <= value <= high or (value == low and not inclusive):
            begin = f"from {low}" if inclusive else f"above {low}"
            end = f" to {high}" if high < math.inf else " up" if inclusive else ""
            raise UserError(f"{key}={_text(value)}: this takes a number {begin}{end}{_or_null(nullable)}")
    for key, choices in _CHOICES.items():
        value = _select(cfg, key)
        if value is not _ABSENT and value not in choices:
            raise UserError(f"{key}={_text(value)}: choose one of {', '.join(choices)}")
    betas = cfg.optim.adam.betas
    if len(betas) != 2 or not all(_is_number(beta) and 0 <= beta < 1 for beta in betas):
        raise UserError(f"optim.adam.betas={betas}: this takes two numbers from 0 up to, but not with, 1")
    if "losses" in cfg:
        _check_codec(cfg)


def _check_codec(cfg: DictConfig) -> None:
    """What only codecs have: weights of losses, what these hear, codes that are replaced."""
    for name, weight in cfg.losses.items():
        if weight is not None and not (_is_number(weight) and weight >= 0):
            raise UserError(f"losses.{name}={weight}: this takes a number from 0 up, the loss's weight; 0 is none")
    dead = _select(cfg, "rvq.threshold_ema_dead_code")
    if dead is not _ABSENT and dead != "auto" and not (_is_number(dead) and dead >= 0):
        raise UserError(f"rvq.threshold_ema_dead_code={_text(dead)}: this takes a number from 0 up, or auto")
    if _select(cfg, "seanet.causal") != _select(cfg, "encodec.causal"):
        raise UserError(f"seanet.causal={cfg.seanet.causal} alone is not enough; set encodec.causal, it follows")
    for name in ("mel", "msspec"):
        if not cfg.losses.get(name):
            continue
        low, high, rate = (cfg[name][key] for key in ("f_min", "f_max", "sample_rate"))
        top = rate / 2 if high is None else high
        if not _is_number(top) or not low < top <= rate / 2:
            raise UserError(
                f"{name}.f_max={_text(high)}: this takes Hz above {name}.f_min={low:g} up to {rate / 2:g}, half the "
                "sample rate, or null for that"
            )
    if cfg.losses.get("msspec") and cfg.msspec.range_end <= cfg.msspec.range_start:
        raise UserError(
            f"msspec.range_end={cfg.msspec.range_end}: this takes a whole number above "
            f"msspec.range_start={cfg.msspec.range_start}"
        )
    if cfg.losses.get("mel") and (cfg.mel.win_length or 0) > cfg.mel.n_fft:
        raise UserError(
            f"mel.win_length={cfg.mel.win_length}: this takes a whole number up to mel.n_fft={cfg.mel.n_fft}, or null"
        )


_ABSENT: Any = object()


def _missing(node: dict[str, Any], prefix: str = "") -> Iterator[str]:
    # OmegaConf.missing_keys fails where another key refers to a missing one.
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _missing(value, f"{prefix}{key}.")
        elif value == "???":
            yield f"{prefix}{key}"


def _select(cfg: DictConfig, key: str) -> Any:
    return OmegaConf.select(cfg, key, default=_ABSENT)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _or_null(nullable: bool) -> str:
    return ", or null" if nullable else ""


def _text(value: object) -> str:
    return "null" if value is None else str(value)
