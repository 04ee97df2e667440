"""What the keys of a configuration take, and values that no run can be made of, told before anything is built."""

import math
import typing as tp

from omegaconf import DictConfig, OmegaConf

from ..errors import UserError
from ..utils.takes import KNOBS, own_knobs

T = tp.TypeVar("T")


class Rule(tp.NamedTuple):
    """What a key takes, as a sentence for people, and whether a value is that."""

    takes: str
    fits: tp.Callable[[tp.Any], bool]


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: tp.Any) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _or_null(rule: Rule) -> Rule:
    return Rule(f"{rule.takes}, or null", lambda value: value is None or rule.fits(value))


def _whole(least: int) -> Rule:
    return Rule(f"this takes a whole number from {least} up", lambda value: _is_whole(value) and value >= least)


def _number(low: float = 0, high: float = math.inf) -> Rule:
    end = f"to {high}" if high < math.inf else "up"
    return Rule(f"this takes a number from {low} {end}", lambda value: _is_number(value) and low <= value <= high)


def _choice(*names: str) -> Rule:
    return Rule(f"choose one of {', '.join(names)}", lambda value: value in names)


def _own_knob(name: str) -> Rule:
    option = name.replace("_", "-")
    return Rule(f"this takes what `generate --{option}` takes, or null", lambda value: not own_knobs({name: value})[1])


_ABOVE_0 = Rule("this takes a number above 0", lambda value: _is_number(value) and value > 0)
SPLITS = ("train", "valid", "evaluate", "generate")
# Keys that a solver does not have are passed over.
_RULES: dict[str, Rule] = {
    "optim.epochs": _whole(1),
    "optim.updates_per_epoch": _or_null(_whole(0)),
    "optim.lr": _number(),
    "optim.accumulate": _whole(1),
    "optim.max_norm": _or_null(_number()),
    "optim.adam.betas": Rule(
        "this takes two numbers from 0 up to, but not with, 1",
        lambda betas: len(betas) == 2 and all(_is_number(beta) and 0 <= beta < 1 for beta in betas),
    ),
    "optim.adam.eps": _number(),
    "optim.adam.weight_decay": _number(),
    "optim.muon.lr": _number(),
    "optim.muon.momentum": Rule(
        "this takes a number from 0 up to, but not with, 1", lambda value: _is_number(value) and 0 <= value < 1
    ),
    "optim.ema.decay": _number(high=1),
    "optim.ema.updates": _whole(1),
    "dataset.batch_size": _whole(1),
    "dataset.num_samples": _or_null(_whole(0)),
    "dataset.num_workers": _whole(0),
    "dataset.segment_duration": _or_null(_ABOVE_0),
    **{f"dataset.{split}.batch_size": _or_null(_whole(1)) for split in SPLITS},
    **{f"dataset.{split}.num_samples": _or_null(_whole(0)) for split in SPLITS},
    "generate.num_workers": _whole(0),
    "generate.every": _or_null(_whole(0)),
    "generate.lm.temp": _number(),
    "generate.lm.top_k": _whole(0),
    "generate.lm.top_p": _number(high=1),
    "generate.lm.gen_duration": _or_null(_number()),
    "generate.audio.format": _choice("wav", "flac", "ogg", "mp3"),
    "generate.audio.strategy": _choice("peak", "clip", "rms", "loudness", "none"),
    **{f"sampling.{name}": _own_knob(name) for name in KNOBS},
    "evaluate.every": _or_null(_whole(0)),
    "checkpoint.save_every": _or_null(_whole(0)),
    "checkpoint.keep_last": _or_null(_whole(0)),
    "checkpoint.every_minutes": _or_null(_number()),
    "logging.level": _choice("DEBUG", "INFO", "WARNING", "ERROR"),
    "logging.progress": _choice("auto", "bar", "lines", "off"),
    "mp_start_method": _choice("forkserver", "spawn", "fork"),
    "num_threads": _or_null(_whole(1)),
    "sample_rate": _whole(1),
    "channels": _whole(1),
    **{f"transformer_lm.{key}": _whole(1) for key in ("dim", "num_heads", "num_layers", "n_q", "card")},
    "transformer_lm.dropout": _number(high=1),
    "init_from_codec": _number(high=1),
    "tokens.loss_share": Rule(
        "this takes a number above 0, up to 1", lambda value: _is_number(value) and 0 < value <= 1
    ),
    "tokens.corruption": _number(high=0.5),  # of a clip up to twice as much is replaced
    **{f"seanet.{key}": _whole(1) for key in ("dimension", "n_filters")},
    **{f"rvq.{key}": _whole(1) for key in ("n_q", "bins")},
    "rvq.threshold_ema_dead_code": Rule(
        "this takes a number from 0 up, or auto", lambda value: value == "auto" or (_is_number(value) and value >= 0)
    ),
    "adversarial.every": _whole(1),
    "adversarial.start": _whole(0),
    **{f"mel.{key}": _whole(1) for key in ("n_fft", "hop_length", "n_mels")},
    "mel.win_length": _or_null(_whole(1)),
    # Windows of 2^range_start samples on, with hops of a quarter of that.
    "msspec.range_start": _whole(2),
    "msspec.range_end": _whole(3),
    "msspec.n_mels": _whole(1),
    **{f"{name}.f_min": _number() for name in ("mel", "msspec")},
    **{f"{name}.floor_level": _ABOVE_0 for name in ("mel", "msspec")},
}
_WEIGHT = Rule("this takes a number from 0 up, the loss's weight; 0 is none", _or_null(_number()).fits)


def pick(table: tp.Mapping[str, T], key: str, name: tp.Any, *others: str) -> T:
    """The entry of a table that the setting `key` names.

    Args:
        others: what the setting takes beside the table's names.

    Raises:
        UserError: there is none of that name.
    """
    if name not in table:
        raise UserError(f"{key}={name} is not known; use {', '.join([*table, *others])}")
    return table[name]


def check_settings(cfg: DictConfig) -> None:
    """Look at the values that would otherwise fail late, or somewhere where nobody knows the key.

    Raises:
        UserError: a value is still to be given, or out of its range; the message names the key and what it takes.
    """
    # Audio has a message of its own.
    plain: tp.Any = OmegaConf.to_container(cfg, resolve=False)
    missing = [key for key in _missing(plain) if not key.startswith("datasource.")]
    if missing:
        raise UserError(
            f"no value was given for {', '.join(missing)}; add {missing[0]}=VALUE, or choose a whole recipe such as "
            "solver=musicgen/micro_32khz"
        )
    for key, rule in (_RULES | {f"losses.{name}": _WEIGHT for name in cfg.get("losses", ())}).items():
        value = OmegaConf.select(cfg, key, default=_ABSENT)
        if value is not _ABSENT and not rule.fits(value):
            _refuse(key, value, rule.takes)
    if "losses" in cfg:
        _check_codec(cfg)


def _check_codec(cfg: DictConfig) -> None:
    """What settings of codecs say of each other."""
    causal = OmegaConf.select(cfg, "seanet.causal")
    if causal != OmegaConf.select(cfg, "encodec.causal"):
        raise UserError(f"seanet.causal={causal} alone is not enough; set encodec.causal, it follows")
    for name in ("mel", "msspec"):
        if cfg.losses.get(name):
            low, high, half = cfg[name].f_min, cfg[name].f_max, cfg[name].sample_rate / 2
            if (high is not None and not (_is_number(high) and low < high <= half)) or not low < half:
                takes = (
                    f"this takes Hz above {name}.f_min={low:g} up to {half:g}, half the sample rate, or null for that"
                )
                _refuse(f"{name}.f_max", high, takes)
    if cfg.losses.get("msspec") and cfg.msspec.range_end <= cfg.msspec.range_start:
        takes = f"this takes a whole number above msspec.range_start={cfg.msspec.range_start}"
        _refuse("msspec.range_end", cfg.msspec.range_end, takes)
    if cfg.losses.get("mel") and (cfg.mel.win_length or 0) > cfg.mel.n_fft:
        takes = f"this takes a whole number up to mel.n_fft={cfg.mel.n_fft}, or null"
        _refuse("mel.win_length", cfg.mel.win_length, takes)


_ABSENT: tp.Any = object()


def _refuse(key: str, value: tp.Any, takes: str) -> tp.NoReturn:
    raise UserError(f"{key}={'null' if value is None else value}: {takes}")


def _missing(node: dict[str, tp.Any], prefix: str = "") -> tp.Iterator[str]:
    # OmegaConf.missing_keys fails where another key refers to a missing one.
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _missing(value, f"{prefix}{key}.")
        elif value == "???":
            yield f"{prefix}{key}"
