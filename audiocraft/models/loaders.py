"""From a name to a model: exports, runs of this project, what ships with it, and the Hugging Face hub.

A name is one of: a folder or file; `//pretrained/NAME` (a codec that ships here or on the hub, or a local path);
`//sig/SIG` or a bare signature (a run of this project); `//reference/PATH` (under the team's reference folder); a hub
id such as `facebook/musicgen-small`; an https address.

Models are built without values and take their weights straight from the mapped file: loading costs about one reading
of the file, and no random start that would be thrown away.
"""

import re
import typing as tp
from pathlib import Path

import torch

from .. import __version__
from ..environment import AudioCraftEnvironment, resource_dir
from ..errors import UserError
from ..utils.checkpoint import checkpoint_name, resolve_checkpoint_path
from ..utils.weights import (
    CODEC_FILE,
    LM_FILE,
    fill_model,
    package_config,
    read_package,
    read_safetensors,
    select_state,
    without_values,
)
from . import builders
from .encodec import CompressionModel
from .encodec_hf import HF_FILE, read_hf_codec
from .hub import get_audiocraft_cache_dir, hub_file, is_hub_id, url_file
from .lm import LMModel

if tp.TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = [
    "get_audiocraft_cache_dir",
    "load_compression_model",
    "load_compression_model_ckpt",
    "load_lm_model",
    "load_lm_model_ckpt",
]

SHIPPED_CODEC = "mini_32khz"
Package = dict[str, tp.Any]

_CODEC_WAYS_OUT = (
    "give a local path, a cache that holds it (AUDIOCRAFT_CACHE_DIR or HF_HOME), "
    f"or the codec that ships here, compression_model_checkpoint=//pretrained/{SHIPPED_CODEC}"
)
_LM_WAYS_OUT = "give a local folder, or a cache that holds it (AUDIOCRAFT_CACHE_DIR or HF_HOME)"


def load_lm_model_ckpt(file_or_url_or_id: str | Path, cache_dir: str | None = None) -> Package:
    """Read a language model's weights and config, without building it.

    Returns:
        `best_state` (name → tensor), `xp.cfg` (YAML text), `version`, and of ours: `path` (the file), and for a run
        `state` (which weights were taken).
    Raises:
        UserError: nothing by that name, or a damaged file.
    """
    if _shipped(str(file_or_url_or_id)):
        raise UserError(
            f"{file_or_url_or_id} is a codec and makes nothing by itself; give a model trained on its codes"
        )
    path = _find_file(file_or_url_or_id, LM_FILE, cache_dir, _LM_WAYS_OUT)
    return _read_package(path)


def load_lm_model(
    file_or_url_or_id: str | Path, device: torch.device | str = "cpu", cache_dir: str | None = None
) -> LMModel:
    """Load a language model for playing (eval mode, float32). Its config is `model.cfg`.

    Conditioners that are null, `{}` or absent all mean none.

    Raises:
        UserError: nothing by that name, a damaged file, or weights that do not fit their config.
    """
    return build_lm_model(load_lm_model_ckpt(file_or_url_or_id, cache_dir), device)


def build_lm_model(package: Package, device: torch.device | str = "cpu") -> LMModel:
    """The language model of what `load_lm_model_ckpt` returned."""
    path = package["path"]
    cfg = package_config(package, path)
    if "transformer_lm" not in cfg:
        raise UserError(f"{path} is not a language model (its config has no transformer_lm); give a MusicGen")
    # Whatever the run trained with, playing is done in float32 on the device that was asked for.
    cfg.device, cfg.dtype = str(device), "float32"
    _resolve_local_t5(cfg, path.parent)
    with without_values("meta"):
        model = builders.get_lm_model(cfg)
    fill_model(model, package["best_state"], path)
    model.cfg = cfg  # type: ignore[assignment]
    return model.to(device).eval()


def _resolve_local_t5(cfg: "DictConfig", folder: Path) -> None:
    """A T5 named `./…` lies beside the weights that use it."""
    for conditioner in (cfg.get("conditioners") or {}).values():
        t5 = conditioner.get("t5") if conditioner else None
        if t5 and str(t5.get("name", "")).startswith("."):
            t5.name = str((folder / t5.name).resolve())


def codec_of(name: str | Path, package: Package) -> str:
    """Name of the codec that belongs to a language model: the one beside it, else the one its config names.

    Args:
        name: what the language model was asked for by.
        package: what `load_lm_model_ckpt` returned for it.
    """
    path = package["path"]
    beside = (path.parent / CODEC_FILE).is_file()
    if path.name == LM_FILE and not beside and not Path(name).expanduser().exists() and is_hub_id(str(name)):
        return str(name)
    return trained_codec(package_config(package, path), path)


def trained_codec(cfg: "DictConfig", path: Path) -> str:
    """Name of the codec that a language model was trained with; a local one by its absolute path.

    Runs and exports keep it beside the weights; else the config names it. A relative path was meant from the folder
    where the training was started, which is where its outputs folder is unless somebody moved that; from there it is
    looked for first.

    Args:
        cfg: the model's config.
        path: of its weights.
    Raises:
        UserError: the config names none, or a relative path that leads nowhere.
    """
    if (path.parent / CODEC_FILE).is_file():
        return str(path.parent / CODEC_FILE)
    name = str(cfg.get("compression_model_checkpoint") or "")
    if not name:
        raise UserError(f"{path} names no codec and no {CODEC_FILE} lies beside it; export the model again")
    bare = name.removeprefix("//pretrained/")
    shipped = bare != name and "/" not in bare
    if shipped or bare.startswith(("//", "https://", "~")) or Path(bare).is_absolute():
        return name
    run = path.resolve().parent
    # A run is FOLDER/outputs/xps/SIGNATURE.
    starts = [run.parents[2]] if run.parent.name == "xps" and len(run.parents) > 2 else []
    for start in (*starts, Path.cwd()):
        if (start / bare).exists():
            return str((start / bare).resolve())
    if "/" in bare and not is_hub_id(bare):
        raise UserError(
            f"the codec {name!r} that {path} was trained with is not there from here; run this in the folder where the "
            "training was started, or put the codec back there"
        )
    return name


def load_compression_model_ckpt(file_or_url_or_id: str | Path, cache_dir: str | None = None) -> Package:
    """Read a codec's weights and config in the peer's layout, without building it.

    Returns:
        As `load_lm_model_ckpt`; or `pretrained`, the name of another codec.
    Raises:
        UserError: nothing by that name, or a damaged file.
    """
    path = _find_file(file_or_url_or_id, CODEC_FILE, cache_dir, _CODEC_WAYS_OUT)
    return _read_package(path)


def load_compression_model(
    file_or_url_or_id: str | Path, device: torch.device | str = "cpu", cache_dir: str | None = None
) -> CompressionModel:
    """Load a codec (eval mode, float32) from any of the layouts known here.

    Taken are: an export or a folder with `compression_state_dict.bin`, a codec run, a Hugging Face folder
    (config.json + model.safetensors), a folder of ours (config.yaml + model.safetensors), and any name of the module's
    list.

    Raises:
        UserError: nothing by that name, no hub, a damaged file, or weights that do not fit their config.
    """
    if str(file_or_url_or_id).removeprefix("//pretrained/") == "debug_compression_model":
        return builders.get_debug_compression_model(device)
    package = codec_package(file_or_url_or_id, cache_dir)
    path = package["path"]
    cfg = package_config(package, path)
    if "encodec" not in cfg:
        raise UserError(f"{path} is not a codec (its config has no encodec); give an EnCodec")
    cfg.device = "cpu"
    with without_values("cpu"):  # weight normalisation takes norms
        model = builders.get_compression_model(cfg)
    fill_model(model, package["best_state"], path)
    return model.to(device).eval()


def codec_package(name: str | Path, cache_dir: str | None = None) -> Package:
    """Weights and config of a codec as the peer lays them out, whatever layout it is stored in."""
    if folder := _safetensors_folder(str(name), cache_dir):
        weights, config = folder / HF_FILE, folder / "config.yaml"
        if config.is_file():
            # Bytes that are no text make no YAML either, which is told where it is read.
            text = config.read_text(encoding="utf-8", errors="replace")
            return {"best_state": read_safetensors(weights), "xp.cfg": text, "version": __version__, "path": weights}
        state, text = read_hf_codec(folder)
        return {"best_state": state, "xp.cfg": text, "version": __version__, "path": weights}
    package = load_compression_model_ckpt(name, cache_dir)
    return codec_package(f"//pretrained/{package['pretrained']}", cache_dir) if "pretrained" in package else package


def _safetensors_folder(name: str, cache_dir: str | None) -> Path | None:
    """The folder of a codec whose weights are a `model.safetensors`: shipped here, local, or from the hub."""
    bare = name.removeprefix("//pretrained/")
    folder = Path(bare).expanduser()
    if folder.exists() and bare == name:
        return folder if (folder / HF_FILE).is_file() else None
    if shipped := _shipped(bare):
        return shipped
    if folder.exists():
        return folder if (folder / HF_FILE).is_file() else None
    if not is_hub_id(bare):
        return None
    found = hub_file(bare, (CODEC_FILE, HF_FILE), cache_dir, _CODEC_WAYS_OUT)
    if found is None or found.name == CODEC_FILE:
        return None
    hub_file(bare, ("config.json",), cache_dir, _CODEC_WAYS_OUT)
    return found.parent


def _shipped(name: str) -> Path | None:
    """The folder of a codec that ships here."""
    bare = name.removeprefix("//pretrained/")
    folder = resource_dir("assets") / bare
    return folder if re.fullmatch(r"\w+", bare) and (folder / HF_FILE).is_file() else None


def _find_file(name: str | Path, filename: str, cache_dir: str | None, ways_out: str) -> Path:
    """Where the weights are: an export's file, else a run's checkpoint, else a file of the hub."""
    text = str(name).removeprefix("//pretrained/")
    if text.startswith("https://"):
        return url_file(text, cache_dir, ways_out)
    folder = Path(text).expanduser()
    if (folder / filename).is_file():
        return folder / filename
    if found := resolve_checkpoint_path(text):
        return found
    if folder.is_dir():
        names = f"{filename}, {HF_FILE}" if filename == CODEC_FILE else filename
        raise UserError(f"{folder} holds none of {names}, {checkpoint_name()}; give the folder of a model or of a run")
    if is_hub_id(text):
        if found := hub_file(text, (filename,), cache_dir, ways_out):
            return found
        raise UserError(f"{text} on the hub has no {filename}; {ways_out}")
    if re.fullmatch(r"[0-9a-f]{8}", text) or text.startswith("//sig/"):
        runs = AudioCraftEnvironment.get_dora_dir() / "xps"
        raise UserError(
            f"there is no run {text} with a checkpoint in {runs}; start in the folder where it was trained, "
            "or set AUDIOCRAFT_DORA_DIR to its outputs"
        )
    raise UserError(f"there is no model {str(name)!r}: no such file, folder, run or hub name; {ways_out}")


def _read_package(path: Path) -> Package:
    """Read an export, or a run's checkpoint as if it had been exported."""
    package = read_package(path)
    if "pretrained" in package:
        return package
    if "exported" not in package and "model" in package:
        state_name, state = select_state(package, None, path)
        package = {"best_state": state, "xp.cfg": package.get("xp.cfg"), "state": state_name, "version": __version__}
    if not isinstance(package.get("best_state"), dict):
        raise UserError(f"{path} holds no weights (best_state); export the model again")
    return {**package, "path": path}
