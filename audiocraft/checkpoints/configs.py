"""The config that travels with a model: read from a stranger's file, and written into an export.

A stranger's config reads nothing but itself: OmegaConf would look into the environment for `${oc.env:NAME}`, here such
a text is a text. What is read is plain: references to other nodes are resolved, and what leads nowhere, or is more than
a reference, is a text.
"""

import re
import typing as tp
from pathlib import Path

from ..errors import UserError
from ..utils.config import add_peer_keys, literal
from ..utils.takes import own_knobs

if tp.TYPE_CHECKING:
    from omegaconf import DictConfig

# Our additions to the tree. Playing does not need them and the peer does not know them.
OUR_KEYS = (
    "adversarial.start",
    "checkpoint.every_minutes",
    "dataset.on_beat",
    "dataset.short",
    "dora",  # where this machine keeps its runs, and which of our keys leave the signature alone
    "init_from_codec",
    "logging.progress",
    "optim.accumulate",
    "optim.muon",
    "tokens.cache",
    "tokens.corruption",
    "tokens.loss_share",
)
# Our values that the peer would stumble over, and what it would write there.
PEER_VALUES = {
    "device": ("auto", "cuda"),
    "autocast_dtype": ("auto", "float16"),
    "optim.optimizer": ("muon", "adamw"),
    "rvq.threshold_ema_dead_code": ("auto", 2),
}
# An alias for an earlier node: a few lines of them unfold to any size.
_ALIAS = re.compile(r"(?:^|[\s\[{,])\*[^\s*]", re.MULTILINE)
# A reference to another node, as `${sample_rate}`; all else in `${…}` calls a resolver, or could after a replacement.
_REFERENCE = re.compile(r"\$\{\.*[A-Za-z_][\w.]*\}")
_MOST_VALUES = 10_000  # of a config, its references resolved


def package_config(package: tp.Mapping[str, tp.Any], path: str | Path) -> "DictConfig":
    """The config (`xp.cfg`) that travels with the weights of an export or a checkpoint.

    Raises:
        UserError: there is none, or it is not a YAML mapping.
    """
    text = package.get("xp.cfg")
    if not isinstance(text, str):
        raise UserError(f"{path} has no config in it (xp.cfg), so its model cannot be rebuilt; export it again")
    what = f"the config inside {path}"
    return _plain(parse(text, what), what)


def read_config(path: str | Path) -> "DictConfig":
    """The config in a `config.yaml`.

    Raises:
        UserError: there is none, or it is not a YAML mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); copy the whole folder again") from error
    return _plain(parse(text, str(path)), str(path))


def parse(text: str, what: str = "the config") -> "DictConfig":
    """A config as it is written, references to other nodes included. Raises UserError as `package_config`."""
    import yaml
    from omegaconf import OmegaConf

    try:
        if _ALIAS.search(text) and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise ValueError("it uses aliases")
        content = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
        cfg = OmegaConf.create(_without_resolvers(content)) if isinstance(content, dict) else None
    except Exception as error:  # yaml and omegaconf raise a family of unrelated types
        raise UserError(f"{what} cannot be read ({type(error).__name__}); export it again") from error
    if cfg is None:
        raise UserError(f"{what} is not a mapping; export it again")
    return cfg


def _without_resolvers(node: tp.Any) -> tp.Any:
    """The same content, with `$(` for `${` in every text that does more than refer to other nodes."""
    if isinstance(node, dict):
        return {key: _without_resolvers(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_without_resolvers(value) for value in node]
    if isinstance(node, str) and "${" in _REFERENCE.sub("", node):
        return node.replace("${", "$(")
    return node


def _plain(cfg: "DictConfig", what: str) -> "DictConfig":
    """The same config with its references resolved. Raises UserError where they unfold without end."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    left = _MOST_VALUES

    def plain(node: tp.Any) -> tp.Any:
        if OmegaConf.is_dict(node):
            return {key: value(node, key) for key in node}
        return [value(node, index) for index in range(len(node))]

    def value(node: tp.Any, key: tp.Any) -> tp.Any:
        nonlocal left
        left -= 1
        found = node._get_node(key)
        written = found if OmegaConf.is_config(found) and not found._is_interpolation() else found._value()
        if isinstance(written, str) and "${" in written:
            try:
                if left < 0 or not _REFERENCE.fullmatch(written):
                    raise OmegaConfBaseException
                written = node[key]
            except OmegaConfBaseException:
                return written.replace("${", "$(")
        return plain(written) if OmegaConf.is_config(written) else written

    try:
        resolved = OmegaConf.create(plain(cfg))
    except RecursionError:
        left = -1
    if left < 0:
        raise UserError(f"{what} cannot be read (its references unfold without end); export it again")
    return resolved


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
    node: tp.Any = cfg
    try:
        for key in keys:
            node = node.get(key) if node is not None else None
        number = float(node or 0)
        if not 0 <= number < float("inf"):
            raise ValueError
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"its {'.'.join(keys)} is no number above 0; export the model again") from error
    return number or None


# --- what an export says ----------------------------------------------------------------------------------------------


def export_config(cfg: "DictConfig") -> str:
    """`xp.cfg` of an export, as YAML text: the peer's keys, at values that its builders understand, and none of ours.

    What the peer has and we do not is there at its defaults: without `transformer_lm.memory_efficient`, say, it builds
    another attention, whose weights have other names. `conditioners` is `{}` where there are none: its loader looks
    into it and fails on null.
    """
    from omegaconf import OmegaConf

    content = add_peer_keys(cfg)
    for key in OUR_KEYS:
        node, name = _parent(content, key)
        node.pop(name, None)
    for key, (ours, theirs) in PEER_VALUES.items():
        node, name = _parent(content, key)
        if node.get(name) == ours:
            node[name] = theirs
    if not any(value is not None for value in _parent(content, "sampling.temperature")[0].values()):
        content.pop("sampling", None)  # nothing is said
    if "transformer_lm" in content:
        content["conditioners"] = content.get("conditioners") or {}
    return OmegaConf.to_yaml(OmegaConf.create(content))


def _parent(content: tp.Any, key: str) -> tuple[dict[str, tp.Any], str]:
    """The node that holds a dotted key, empty where there is none, and the key's name in it."""
    *parents, name = key.split(".")
    for parent in parents:
        content = content.get(parent) if isinstance(content, dict) else None
    return content if isinstance(content, dict) else {}, name


def with_codec(text: str, name: str) -> str:
    """A language model's config, YAML text, that names this codec."""
    return with_value(text, "compression_model_checkpoint", literal(name))


def with_sampling(text: str, knobs: tp.Mapping[str, tp.Any]) -> str:
    """A language model's config, YAML text, with these knobs of the sampler as the model's own, beside those it has.

    Raises:
        UserError: a knob that there is not, or a value out of range.
    """
    good, wrong = own_knobs(knobs)
    if wrong:
        raise UserError(f"{wrong[0]}; give others")
    held, _ = own_knobs(_plain(parse(text), "the config").get("sampling"))
    return with_value(text, "sampling", held | good)


def with_value(text: str, key: str, value: tp.Any) -> str:
    """A config, YAML text, with another value of one of its own keys; all others stay as they are written."""
    from omegaconf import OmegaConf

    content = tp.cast(dict[str, tp.Any], OmegaConf.to_container(OmegaConf.create(text), resolve=False))
    return (
        text
        if key in content and content[key] == value
        else OmegaConf.to_yaml(OmegaConf.create({**content, key: value}))
    )
