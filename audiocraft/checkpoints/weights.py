"""Weight files: read without running foreign code, without a copy, and with errors that say what to do.

Three layouts are known here:

* an export (the peer's layout): `best_state` (tensors), `xp.cfg` (YAML text), `version`, `exported`; or `pretrained`
  (a codec's name);
* a checkpoint of a run of ours: `model`, `ema`, `best_state`, `xp.cfg`, `history` and more, plain values only;
* plain tensors in a safetensors file, with the config beside it.
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

logger = logging.getLogger(__name__)

STATES = ("ema", "best", "model")


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


def inner(content: tp.Any, *keys: str) -> tp.Any:
    """The mapping at these keys, one in the other; nothing where something else stands."""
    for key in keys:
        content = content.get(key) if hasattr(content, "keys") else None
    return content if hasattr(content, "keys") else {}


def run_history(checkpoint: dict[str, tp.Any]) -> list[dict[str, tp.Any]]:
    """The metrics of a run's epochs, by stage."""
    history = checkpoint.get("history")
    return [epoch for epoch in history if isinstance(epoch, dict)] if isinstance(history, list) else []


def _states(checkpoint: dict[str, tp.Any]) -> dict[str, dict[str, torch.Tensor]]:
    """Which of `ema`, `best`, `model` a run's checkpoint holds. An average that no step was taken into is the random
    start, as are the best weights before the first validation."""
    epochs = [*run_history(checkpoint), inner(checkpoint, "epoch_state", "stages")]
    validated = any("valid" in stages for stages in epochs)
    states = {
        "ema": inner(checkpoint, "ema", "state", "model") if inner(checkpoint, "ema").get("count") else {},
        "best": inner(checkpoint, "best_state", "model") if validated else {},
        "model": inner(checkpoint, "model"),
    }
    return {name: state for name, state in states.items() if state}


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
    have = _states(checkpoint)
    if "model" not in have:
        raise UserError(f"{path} holds no trained weights; train the run for at least one epoch first")
    chosen = state or ("ema" if "ema" in have else "model")
    if chosen not in STATES:
        raise UserError(f"there is no state {chosen!r}; choose one of {', '.join(STATES)}")
    if chosen not in have:
        raise UserError(f"{path} holds no {chosen!r} weights; choose one of {', '.join(have)}")
    if state is None and checkpoint.get("ema") and chosen != "ema":
        logger.warning("%s has no average yet (too few steps, see optim.ema.updates): the last weights are taken", path)
    chosen_state = {**have["model"], **have[chosen]}
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
    _MAKING = frozenset({"empty", "zeros", "ones"})

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
        name = getattr(func, "__name__", "")
        if name in self._RANDOM:
            return args[0] if args else (kwargs or {})["tensor"]
        self._calls -= 1
        if name in self._MAKING:  # counted before there is memory for it
            size = args[0] if len(args) == 1 and isinstance(args[0], (tuple, list)) else args
            self._elements -= math.prod(tp.cast(tuple[int, ...], size))
        result = func(*args, **(kwargs or {})) if self._elements >= 0 else None
        self._elements -= result.numel() if isinstance(result, torch.Tensor) and name not in self._MAKING else 0
        if self._calls < 0 or self._elements < 0:
            raise UserError("it describes a model that is far larger than its weights")
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
