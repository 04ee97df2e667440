"""Check command-line overrides before hydra sees them, so that a slip of the pen gets one line that helps."""

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, InterpolationToMissingValueError, OmegaConfBaseException

from ..errors import UserError
from . import left_out
from .config import ignored_keys, literal, peer_only_keys

Compose = Callable[[Sequence[str]], DictConfig]


def one_line(error: BaseException) -> str:
    """The first sentences of an exception, on one line."""
    return " ".join(line.strip() for line in str(error).splitlines()[:2] if line.strip())


# `${` behind an even number of backslashes; behind an odd one OmegaConf takes it literally.
_INTERPOLATION = re.compile(r"(?<!\\)(?:\\\\)*\$\{")


def quote(value: object) -> str:
    """A text as the value of an override, whatever characters it holds."""
    text = literal(str(value))
    if re.fullmatch(r"[\w./:@-]+", text, re.ASCII):
        return text
    # A backslash means itself, but where a quote or the end follows.
    return "'" + re.sub(r"(\\*)('|$)", lambda match: match[1] * 2 + match[2].replace("'", r"\'"), text) + "'"


def with_literal_sources(argv: Sequence[str]) -> list[str]:
    """`argv` with the folders of `datasource` taken by their letters: in these, `${` is a part of the name."""
    taken = []
    for arg, override in zip(argv, parse(argv)):
        value = override.value() if override.key_or_group.startswith("datasource.") else None
        if isinstance(value, str) and _INTERPOLATION.search(value):
            arg = f"{arg.partition('=')[0]}={quote(value)}"
        taken.append(arg)
    return taken


def parse(argv: Sequence[str]) -> list[Override]:
    """Overrides as hydra understands them.

    Raises:
        UserError: not of the form key=value, or not readable.
    """
    parser = OverridesParser.create()
    parsed = []
    for arg in argv:
        if "=" not in arg:
            raise UserError(f"'{arg}' is not of the form key=value")
        try:
            parsed.append(parser.parse_override(arg))
        except HydraException as error:
            raise UserError(f"'{arg}' cannot be read; quote special characters as in \"key='value'\"") from error
    return parsed


def drop_peer_keys(argv: Sequence[str], solver: str | None) -> list[str]:
    """`argv` without the peer's keys that are not served.

    Raises:
        UserError: one of them has another value than the peer's default.
    """
    table = peer_only_keys(solver)
    kept = []
    for arg, override in zip(argv, parse(argv)):
        key = override.key_or_group.lstrip("+")
        if key in ignored_keys():
            continue
        if key not in table:
            kept.append(arg)
        elif override.value() != table[key] and str(override.value()) != str(table[key]):
            raise UserError(
                f"{key} is a key of audiocraft that is not served here, so only its default is accepted "
                f"({key}={_yaml(table[key])}); leave it out"
            )
    return kept


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value).replace(" ", "")


def _leaves(cfg: Any, prefix: str = "") -> Iterable[str]:
    """Dotted names of all keys of a config, inner ones included."""
    for key in cfg:
        name = f"{prefix}{key}"
        yield name
        if OmegaConf.is_missing(cfg, key) or OmegaConf.is_interpolation(cfg, key):
            continue
        if isinstance(cfg[key], DictConfig):
            yield from _leaves(cfg[key], f"{name}.")


def _nearest(word: str, known: Iterable[str]) -> str:
    known = list(known)
    tail = word.rpartition(".")[2]
    same_tail = [name for name in known if name.rpartition(".")[2] == tail]
    close = same_tail[:2] or difflib.get_close_matches(word, known, n=2, cutoff=0.85)
    close = close or difflib.get_close_matches(word, known, n=1) or difflib.get_close_matches(tail, known, n=1)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def check(argv: Sequence[str], groups: dict[str, list[str]], compose: Compose) -> DictConfig:
    """Look for slips in overrides; returns the configuration of the group choices alone.

    Args:
        groups: the choices of each config group.
        compose: gives the configuration for some overrides.

    Raises:
        UserError: an unknown group, choice or key, or a value of another type than the default.
    """
    overrides = parse(argv)
    chosen = [arg for arg, override in zip(argv, overrides) if override.key_or_group in groups]
    for arg, override in zip(argv, overrides):
        group = override.key_or_group
        if group in groups and override.value() not in groups[group]:
            if left_out.is_choice(group, str(override.value())):
                raise UserError(left_out.message(arg))
            # What recipes share lies beside them, but is none.
            choices = [name for name in groups[group] if group != "solver" or not name.endswith("default")]
            near = _nearest(str(override.value()), choices) or f"; choices: {', '.join(choices)}"
            raise UserError(f"{arg}: there is no such {group}{near}")
    try:
        base = compose(chosen)
    except HydraException as error:
        for arg in chosen:
            group = arg.split("=", 1)[0].lstrip("+")
            if f"'{group}'" in str(error) or f'"{group}"' in str(error):
                raise UserError(
                    f"{arg} does not apply to this solver; leave it out, or choose another solver="
                ) from error
        raise UserError(one_line(error)) from error
    known = list(_leaves(base))
    for arg, override in zip(argv, overrides):
        key = override.key_or_group
        if key in groups or override.is_add() or override.is_force_add():
            continue
        if key not in known:
            what = "key or group" if "/" in key or "." not in key else "key"
            near = _nearest(key, [*known, *groups]) or "; add show=true to a right command to see all keys"
            raise UserError(f"{arg}: there is no {what} '{key}'{near}")
        if not override.is_delete():
            _check_type(arg, OmegaConf.select(base, key, throw_on_missing=False), override.value())
    return base


def _check_type(arg: str, default: Any, value: Any) -> None:
    """Refuse a value whose type cannot be meant. null is always taken, as is `auto`, and interpolations."""
    if default is None or value is None or (isinstance(value, str) and (value == "auto" or value.startswith("${"))):
        return
    if isinstance(default, bool):
        wanted = None if isinstance(value, bool) else "true or false"
    elif isinstance(default, (int, float)):
        wanted = None if isinstance(value, (int, float)) and not isinstance(value, bool) else "a number"
    elif isinstance(default, ListConfig):
        wanted = None if isinstance(value, list) else "a list, like [1,2]"
    elif isinstance(default, DictConfig):
        wanted = None if isinstance(value, dict) else f"keys of its own ({', '.join(map(str, default)) or 'none'})"
    else:
        wanted = None
    if wanted:
        example = "" if isinstance(default, DictConfig) else f", as in the default {default}"
        raise UserError(f"{arg}: this takes {wanted}{example}")


def composed(compose: Compose, argv: Sequence[str]) -> DictConfig:
    """`compose(argv)` with hydra's errors in one line, those of references to other keys included."""
    try:
        cfg = compose(argv)
        with suppress(InterpolationToMissingValueError):  # values that are still to be given have a check of their own
            OmegaConf.to_container(cfg, resolve=True)
        return cfg
    except (InterpolationResolutionError, RecursionError) as error:
        key = getattr(error, "full_key", None)
        raise UserError(
            f"{f'{key} refers' if key else 'a key refers'} to something that leads nowhere ({one_line(error)}); "
            "give a value, or ${NAME} of another key"
        ) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(one_line(error)) from error
