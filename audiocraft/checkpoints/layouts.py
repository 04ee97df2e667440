"""How a model lies in a folder: the files of each layout, and what writes them. What the layouts are: `export`."""

import typing as tp
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from .. import __version__
from ..utils.files import Writer
from .card import CARD_FILE, model_card
from .configs import package_config, with_codec
from .locate import CODEC_FILE, CODEC_FOLDER, CONFIG_FILE, INCLUDED_CODEC, LM_FILE, WEIGHTS_FILE
from .packages import Package
from .weights import as_float32, write_safetensors

MODEL_FILES = (
    LM_FILE,
    CODEC_FILE,
    WEIGHTS_FILE,
    CONFIG_FILE,
    f"{CODEC_FOLDER}/{WEIGHTS_FILE}",
    f"{CODEC_FOLDER}/{CONFIG_FILE}",
)


@dataclass
class ModelContent:
    """A model before it has a layout.

    Attributes:
        codec: of the model, or the model itself; `pretrained` alone where the peer knows it by name.
        lm: the language model; None where a codec is exported.
        facts: what `export.json` says.
        beside: files that the config refers to, by their place in the folder.
    """

    codec: Package
    lm: Package | None = None
    facts: dict[str, tp.Any] = field(default_factory=dict)
    beside: dict[str, Path] = field(default_factory=dict)


def is_ours(codec: Package) -> bool:
    """Whether a codec's package is of a kind that the peer does not know."""
    return "pretrained" not in codec and "spectral" in package_config(codec, CONFIG_FILE)


def peer_files(content: ModelContent) -> dict[str, Writer]:
    """The files of the peer's layout, by their place in the folder."""
    files = {CODEC_FILE: saving(content.codec)}
    return files if content.lm is None else {**files, LM_FILE: saving(content.lm)}


def safetensors_files(content: ModelContent, name: str) -> dict[str, Writer]:
    """The files of our layout, by their place in the folder, for a model of that `name`."""
    named = content.codec.get("pretrained")
    card = text_file(model_card(name, content.lm, content.codec, content.facts))
    if content.lm is None:
        return {**_folder_files(content.codec), CARD_FILE: card}
    codec = f"//pretrained/{named}" if named else INCLUDED_CODEC
    lm = {**content.lm, "xp.cfg": with_codec(content.lm["xp.cfg"], codec)}
    files = {**_folder_files(lm), CARD_FILE: card}
    return files if named else {**files, **_folder_files(content.codec, f"{CODEC_FOLDER}/")}


def _folder_files(package: Package, prefix: str = "") -> dict[str, Writer]:
    """Weights and config of one model in our layout."""
    return {
        f"{prefix}{WEIGHTS_FILE}": partial(write_safetensors, _compact(package["best_state"])),
        f"{prefix}{CONFIG_FILE}": text_file(package["xp.cfg"]),
    }


def saving(package: Package) -> Writer:
    """Writes an export file of the peer's layout."""
    if "pretrained" in package:
        content: Package = {"pretrained": package["pretrained"]}
    else:
        content = {"best_state": _compact(as_float32(package["best_state"])), "xp.cfg": package["xp.cfg"]}
    content |= {"version": __version__, "exported": True}
    return lambda path: torch.save(content, path)


def _compact(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors that each have their own memory, and no more of it than they need."""
    compact: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, value in state.items():
        # A tensor that views a larger storage would drag all of it into the file; safetensors takes no storage twice.
        shared = value.untyped_storage().nbytes() != value.nbytes or value.data_ptr() in seen
        compact[name] = value.clone() if shared else value.contiguous()
        seen.add(value.data_ptr())
    return compact


def text_file(text: str) -> Writer:
    """Writes a text."""
    return lambda path: path.write_text(text, encoding="utf-8")
