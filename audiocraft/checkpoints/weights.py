"""Weight files: read without running foreign code, without a copy, and with errors that say what to do.

Three layouts are known here:

* an export (the peer's layout): `best_state` (tensors), `xp.cfg` (YAML text), `version`, `exported`; or `pretrained`
  (a codec's name);
* a checkpoint of a run of ours: `model`, `ema`, `best_state`, `xp.cfg`, `history` and more, plain values only;
* plain tensors in a safetensors file, with the config beside it.

A config is a stranger's as well. OmegaConf would look into the environment for `${oc.env:NAME}`; here such a text is
a text.
"""

import hashlib
import logging
import math
import os
import re
import typing as tp
import zipfile
from pathlib import Path

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ..errors import UserError
from ..utils.hub import fetch_again
from .checkpoint import load_checkpoint

if tp.TYPE_CHECKING:
    from omegaconf import DictConfig

logger = logging.getLogger(__name__)

# Names in a model folder: the peer's,
LM_FILE = "state_dict.bin"
CODEC_FILE = "compression_state_dict.bin"
# ours (the first also of a Hugging Face codec),
WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.yaml"
CODEC_FOLDER = "codec"
# and the config of a Hugging Face codec.
HF_CONFIG_FILE = "config.json"

Package = dict[str, tp.Any]  # `best_state`, `xp.cfg`, `version`, …
STATES = ("ema", "best", "model")


def read_package(path: str | Path) -> dict[str, tp.Any]:
    """Read an export or a checkpoint; its tensors stay on disk (memory-mapped) until they are used.

    Raises:
        UserError: the file is missing, damaged, or holds pickled objects (as the peer's own `checkpoint.th` does).
    """
    content = load_checkpoint(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a checkpoint (it holds a {type(content).__name__}); check the path")
    return content


def read_safetensors(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file.

    Raises:
        UserError: the file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no file {path}; check the path")
    try:
        return load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        way_out = fetch_again(path) or "copy it again"
        raise UserError(f"{path} is damaged or not a safetensors file; {way_out}") from error


def write_safetensors(state: dict[str, torch.Tensor], path: str | Path) -> None:
    """Write a safetensors file; the tensors keep their types.

    Raises:
        OSError: as a plain write does.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(state, path, metadata={"format": "pt"})
    except SafetensorError as error:  # its writer gives the error of the system only as a text
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error


def package_config(package: dict[str, tp.Any], path: str | Path) -> "DictConfig":
    """The config (`xp.cfg`) that travels with the weights of an export or a checkpoint.

    Raises:
        UserError: there is none, or it is not a YAML mapping.
    """
    text = package.get("xp.cfg")
    if not isinstance(text, str):
        raise UserError(f"{path} has no config in it (xp.cfg), so its model cannot be rebuilt; export it again")
    return _config(text, f"the config inside {path}")


def read_config(path: str | Path) -> "DictConfig":
    """The config in a `config.yaml`.

    Raises:
        UserError: there is none, or it is not a YAML mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); copy the whole folder again") from error
    return _config(text, str(path))


# An alias for an earlier node: a few lines of them unfold to any size.
_ALIAS = re.compile(r"(?:^|[\s\[{,])\*[^\s*]", re.MULTILINE)
# A reference to another node, as `${sample_rate}`; all else in `${…}` calls a resolver, or could after a replacement.
_REFERENCE = re.compile(r"\$\{\.*[A-Za-z_][\w.]*\}")


def _config(text: str, what: str) -> "DictConfig":
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


def averaged_state(checkpoint: dict[str, tp.Any], name: str = "model") -> dict[str, torch.Tensor] | None:
    """The moving average of a module's weights in a run's checkpoint.

    Args:
        checkpoint: content of a run's `checkpoint.th`.
        name: the module, as the solver calls it.
    Returns:
        None where the run keeps no average, or has not taken a step into it: it then holds the random start.
    """
    return _inner(checkpoint, "ema", "state", name) or None if _inner(checkpoint, "ema").get("count") else None


def _inner(content: tp.Any, *keys: str) -> dict[str, tp.Any]:
    """The dict at these keys, one in the other; nothing where something else stands."""
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content if isinstance(content, dict) else {}


def _best_state(checkpoint: dict[str, tp.Any]) -> dict[str, torch.Tensor] | None:
    """The weights that validated best; None before the first validation: they are then the random start."""
    epochs = [*run_history(checkpoint), _inner(checkpoint, "epoch_state", "stages")]
    return _inner(checkpoint, "best_state", "model") if any("valid" in stages for stages in epochs) else None


def run_history(checkpoint: dict[str, tp.Any]) -> list[dict[str, tp.Any]]:
    """The metrics of a run's epochs, by stage."""
    history = checkpoint.get("history")
    return [epoch for epoch in history if isinstance(epoch, dict)] if isinstance(history, list) else []


def available_states(checkpoint: dict[str, tp.Any]) -> list[str]:
    """Which of `ema`, `best`, `model` a run's checkpoint holds."""
    return [state for state in STATES if _raw_state(checkpoint, state)]


def _raw_state(checkpoint: dict[str, tp.Any], state: str) -> dict[str, torch.Tensor]:
    if state == "ema":
        return averaged_state(checkpoint) or {}
    if state == "best":
        return _best_state(checkpoint) or {}
    return _inner(checkpoint, "model")


def select_state(
    checkpoint: dict[str, tp.Any], state: str | None, path: str | Path
) -> tuple[str, dict[str, torch.Tensor]]:
    """Pick the weights of a run's checkpoint.

    Args:
        checkpoint: content of a run's `checkpoint.th`.
        state: `ema` (average of the last steps), `best` (lowest validation loss), `model` (the last step), or
            None for the average where the run kept one, else the last step (with a warning where it meant to keep one).
        path: the file, for messages.
    Returns:
        The state's name and all its tensors. What is not averaged (integer buffers) comes from the model itself.
    Raises:
        UserError: the checkpoint has no such state.
    """
    have = available_states(checkpoint)
    if "model" not in have:
        raise UserError(f"{path} holds no trained weights; train the run for at least one epoch first")
    chosen = state or have[0 if have[0] != "best" else 1]
    if chosen not in STATES:
        raise UserError(f"there is no state {chosen!r}; choose one of {', '.join(STATES)}")
    if chosen not in have:
        raise UserError(f"{path} holds no {chosen!r} weights; choose one of {', '.join(have)}")
    if state is None and checkpoint.get("ema") and chosen != "ema":
        logger.warning("%s has no average yet (too few steps, see optim.ema.updates): the last weights are taken", path)
    chosen_state = {**_raw_state(checkpoint, "model"), **_raw_state(checkpoint, chosen)}
    check_tensors(chosen_state, path)
    return chosen, chosen_state


def check_tensors(state: dict[tp.Any, tp.Any], path: str | Path) -> None:
    """Refuse what stands among the weights and is none: a file may hold anything plain there, sparse tensors too.

    Raises:
        UserError: there is such a thing.
    """
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            raise UserError(f"{path} holds something among its weights that is none ({name!r:.60}); export it again")


def old_norm_name(key: str) -> str:
    """The name that weight norm's tensors have in the peer's files, for the one newer torch gives them."""
    return key.replace("parametrizations.weight.original0", "weight_g").replace(
        "parametrizations.weight.original1", "weight_v"
    )


def with_old_norm_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors under `old_norm_name`."""
    return {old_norm_name(name): value for name, value in state.items()}


def with_own_attention_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors, those of attention under the names they have here.

    Checkpoints of the peer made with `custom=false memory_efficient=false` hold the same weights under `mha.`.
    """
    return {name.replace(".mha.", "."): value for name, value in state.items()}


def as_float32(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors, floating ones in float32 (those that are stay where they are, uncopied)."""
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


class without_values(TorchFunctionMode):
    """Context in which modules are built without a random start: weights are on their way.

    Args:
        device: `meta` builds shapes only. Norms of meta tensors make torch import its compiler, which takes seconds,
            as would random numbers: modules that compute while they are built are better off on the `cpu`, where memory
            that is never touched costs nothing.
        state: the weights, where there are some: what takes many times their number to build is no model of theirs,
            and a config could ask for anything.
    """

    _RANDOM = frozenset({"normal_", "uniform_", "trunc_normal_", "kaiming_uniform_", "xavier_uniform_"})

    def __init__(self, device: str, state: tp.Mapping[str, torch.Tensor] | None = None) -> None:
        super().__init__()
        self._device = torch.device(device)
        sizes = [value.numel() for value in (state or {}).values()]
        self._calls = math.inf if state is None else 1000 + 100 * len(sizes)
        self._elements = math.inf if state is None else 10**8 + 100 * sum(sizes)

    def __enter__(self) -> "without_values":
        self._device.__enter__()
        return super().__enter__()

    def __exit__(self, *error: tp.Any) -> None:
        super().__exit__(*error)
        self._device.__exit__(*error)

    def __torch_function__(
        self, func: tp.Any, types: tp.Any, args: tuple[tp.Any, ...] = (), kwargs: dict[str, tp.Any] | None = None
    ) -> tp.Any:
        if getattr(func, "__name__", "") in self._RANDOM:
            return args[0] if args else (kwargs or {})["tensor"]
        result = func(*args, **(kwargs or {}))
        self._calls -= 1
        self._elements -= result.numel() if isinstance(result, torch.Tensor) else 0
        if self._calls < 0 or self._elements < 0:
            raise ValueError("it is far larger than its weights")
        return result


def fill_model(model: nn.Module, state: dict[str, torch.Tensor], path: str | Path) -> None:
    """Give a model built in `without_values` its weights, without a copy.

    Raises:
        UserError: names or shapes do not fit the model that the config describes, or values are NaN or infinite.
    """
    have, need = state.keys(), model.state_dict()
    wrong = [
        *(f"{name} is missing" for name in need if name not in have),
        *(f"{name} is unknown" for name in have if name not in need),
        *(
            f"{name} is {tuple(state[name].shape)}, not {tuple(value.shape)}"
            for name, value in need.items()
            if name in have and state[name].shape != value.shape
        ),
        *(
            f"{name} is {state[name].dtype}, not {value.dtype}"
            for name, value in need.items()
            if name in have and value.is_floating_point() and not state[name].is_floating_point()
        ),
    ]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise UserError(f"the weights in {path} do not fit its config: {wrong[0]}{more}; export its run again")
    for name, value in state.items():
        # One pass over memory that is read anyway; a sum in float32 does not overflow where weights are weights.
        if value.is_floating_point() and not torch.isfinite(value.sum(dtype=torch.float32)):
            raise UserError(
                f"the weights in {path} are no numbers any more ({name}): the training has diverged; take an earlier "
                "epoch (export --epoch), or train again with a lower optim.lr"
            )
    model.load_state_dict(as_float32(state), assign=True)
    left = [name for name, value in (*model.named_parameters(), *model.named_buffers()) if value.is_meta]
    assert not left, f"no values for {left}"


def fingerprint(path: str | Path) -> str:
    """Twelve hexadecimal digits that tell weight files apart by content.

    A zip (every torch file) lists the checksums of its parts, so its fingerprint costs no reading of the weights. Of
    other files the first MiB is read, and some of each further one: a step of training moves all weights.
    """
    path = Path(path)
    digest = hashlib.sha256()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for part in archive.infolist():
                # The first folder is named after the file as it was written; it says nothing about the content.
                digest.update(f"{part.filename.partition('/')[2]} {part.file_size} {part.CRC}\n".encode())
    else:
        with open(path, "rb") as file:
            digest.update(file.read(1 << 20))
            while block := file.read(1 << 12):
                digest.update(block)
                file.seek((1 << 20) - len(block), 1)
            digest.update(str(path.stat().st_size).encode() if file.tell() > 1 << 20 else b"")
    return digest.hexdigest()[:12]
