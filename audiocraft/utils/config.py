"""What a configuration may hold: values that fit what is built of them, and keys of the peer's that are not served."""

import collections.abc
import inspect
import math
import re
import types
import typing as tp
from functools import cache

from ..environment import resource_dir
from ..errors import UserError

if tp.TYPE_CHECKING:
    from omegaconf import DictConfig


def literal(text: str) -> str:
    """The value of a config that OmegaConf reads as `text` where that holds `${`, as a folder's name may."""
    return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", text)


# Whole numbers that may be 0; all others are sizes of something.
_MAY_BE_ZERO = frozenset({"lstm", "n_residual_layers", "disable_norm_outer_blocks", "kmeans_iters", "past_context"})
_MAY_BE_ZERO |= {"delays", "flattening", "flatten_first", "empty_initial"}
_LARGEST = 1 << 31
_WORDS: dict[tp.Any, str] = {bool: "true or false", float: "a number", str: "a text", type(None): "null"}
_WORDS |= {
    dict: "keys of its own",
    collections.abc.Mapping: "keys of its own",
    collections.abc.Sequence: "a list",
    tuple: "a list",
}


def check_node(
    node: str, given: tp.Mapping[str, tp.Any], *kinds: tp.Callable[..., tp.Any], but: tp.Collection[str] = ()
) -> None:
    """See whether the values of a config's node are what they are given to declares its parameters to be.

    Args:
        node: its name.
        given: key → value, plain.
        kinds: classes or functions that take the values by name.
        but: parameters that come from elsewhere.
    Raises:
        UserError: a key that nothing takes, one that is missing, or a value of another kind.
    """
    parameters = [each for kind in kinds for each in inspect.signature(kind).parameters.values()]
    known = {each.name: each for each in parameters if each.kind is not each.VAR_KEYWORD and each.name not in but}
    for key, value in given.items():
        if key not in known:
            raise UserError(f"unknown key '{node}.{key}'; known are {', '.join(sorted(known))}")
        hint, least = known[key].annotation, 0 if key in _MAY_BE_ZERO else 1
        is_share = "dropout" not in key or not isinstance(value, (int, float)) or 0 <= value <= 1
        if not is_share or not _fits(value, hint, least):
            shown = "null" if value is None else f"{value!r:.60}"
            raise UserError(f"{node}.{key} is {shown}; it takes {_words(hint, least)}")
    if missing := [key for key, each in known.items() if key not in given and each.default is each.empty]:
        raise UserError(f"{node}.{missing[0]} is missing; it takes {_words(known[missing[0]].annotation, 1)}")


def _fits(value: tp.Any, hint: tp.Any, least: int) -> bool:
    kind, inner = tp.get_origin(hint) or hint, tp.get_args(hint)
    if kind in (tp.Union, types.UnionType):
        return any(_fits(value, each, least) for each in inner)
    if kind is int:
        return type(value) is int and least <= value < _LARGEST
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    if kind in (tuple, collections.abc.Sequence):
        return (
            isinstance(value, list)
            and all(_fits(each, inner[0], least) for each in value)
            and (kind is not tuple or len(value) == len(inner))
        )
    if kind in (dict, collections.abc.Mapping):
        return isinstance(value, dict) and all(
            isinstance(key, str) and _fits(each, inner[1], least) for key, each in value.items()
        )
    return kind is tp.Any or not isinstance(kind, type) or isinstance(value, kind)


def _words(hint: tp.Any, least: int) -> str:
    kind, inner = tp.get_origin(hint) or hint, tp.get_args(hint)
    if kind in (tp.Union, types.UnionType):
        return ", or ".join(_words(each, least) for each in inner)
    if kind is int:
        return f"a whole number from {least}"
    return _WORDS.get(kind, "something else")


@cache
def _table() -> dict[str, dict[str, tp.Any]]:
    from omegaconf import OmegaConf

    table: tp.Any = OmegaConf.to_container(OmegaConf.load(resource_dir("config") / "peer_only.yaml"), resolve=False)
    return table


def peer_only_keys(solver: str | None = None) -> dict[str, tp.Any]:
    """Keys that are not served, with the peer's defaults.

    Args:
        solver: musicgen or compression; None for the keys of all solvers.
    """
    table = _table()
    solvers = [solver] if solver in ("musicgen", "compression") else ["musicgen", "compression"]
    return {key: value for part in ("all", *solvers) for key, value in table[part].items()}


def ignored_keys() -> dict[str, tp.Any]:
    """Keys of the peer that mean nothing here and are accepted at any value, with the peer's usual values."""
    return _table()["ignored"]


def add_peer_keys(cfg: "DictConfig") -> dict[str, tp.Any]:
    """Content of `cfg`, references as they are written, with the keys the peer's builders expect at its defaults."""
    from omegaconf import OmegaConf

    content: tp.Any = OmegaConf.to_container(cfg, resolve=False)
    for key, value in peer_only_keys(content.get("solver")).items():
        *parents, name = key.split(".")
        node = content
        for parent in parents:
            if isinstance(node, dict) and node.get(parent) is None:
                node[parent] = {}
            node = node[parent] if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.setdefault(name, value)
    return content
