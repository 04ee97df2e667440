"""From a name to a model. What names there are and where their files lie: `locate`.

Models are built without values and take their weights straight from the mapped file: loading costs about one reading
of the file, and no random start that would be thrown away. No file is trusted: weights are read as plain tensors, and
a config reads nothing but itself.
"""

import typing as tp
from contextlib import contextmanager
from pathlib import Path

import torch

from .. import __version__
from ..checkpoints import local_t5, locate
from ..checkpoints.encodec_hf import read_hf_codec
from ..checkpoints.weights import (
    CONFIG_FILE,
    HF_CONFIG_FILE,
    WEIGHTS_FILE,
    Package,
    check_tensors,
    fill_model,
    package_config,
    read_package,
    read_safetensors,
    select_state,
    with_old_norm_names,
    with_own_attention_names,
    without_values,
)
from ..errors import UserError
from ..utils import left_out
from ..utils.hub import get_audiocraft_cache_dir, is_in_cache_of
from ..utils.model_config import trained_rate, trained_reach
from . import builders
from .codec import CompressionModel
from .lm import LMModel

__all__ = [
    "get_audiocraft_cache_dir",
    "load_compression_model",
    "load_compression_model_ckpt",
    "load_lm_model",
    "load_lm_model_ckpt",
]

_MOST_NAMES = 4  # that codecs may pass on to each other


def load_lm_model_ckpt(file_or_url_or_id: str | Path, cache_dir: str | None = None) -> Package:
    """Read a language model's weights and config, without building it.

    Returns:
        `best_state` (name → tensor), `xp.cfg` (YAML text), `version`, and of ours: `path` (the file), and for a run
        `state` (which weights were taken).
    Raises:
        UserError: nothing by that name, or a damaged file.
    """
    if locate.shipped_codec(str(file_or_url_or_id)):
        raise UserError(
            f"{file_or_url_or_id} is a codec and makes nothing by itself; give a model trained on its codes"
        )
    package = _read_package(locate.find_lm(file_or_url_or_id, cache_dir))
    repo = str(file_or_url_or_id).removeprefix("//pretrained/")
    if is_in_cache_of(package["path"], repo):
        _fetch_t5s(repo, package, cache_dir)
    return package


def _fetch_t5s(repo: str, package: Package, cache_dir: str | None) -> None:
    """Have the T5s of a repository beside its model, of the same commit."""
    path = package["path"]
    cfg = package_config(package, path)
    with config_errors(path):
        sources = local_t5.within(cfg, path.parent)
    for source in sources.values():
        place = source.relative_to(path.parent.resolve())
        if not (path.parent / place / local_t5.LAST_FILE).is_file():
            local_t5.fetch(place, lambda file: locate.lm_file(repo, file, cache_dir, commit=path.parent.name))


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
    with config_errors(path):
        interleaves = (cfg.get("interleave_stereo_codebooks") or {}).get("use")
        for read in (trained_rate, trained_reach):  # `genmodel` will ask for them
            read(cfg)
    if interleaves:
        raise UserError(left_out.message(f"the interleaved stereo of {path}"))
    # Whatever the run trained with, playing is done in float32 on the device that was asked for.
    cfg.device, cfg.dtype = str(device), "float32"
    with config_errors(path), without_values("meta", package["best_state"]):
        local_t5.resolve(cfg, path.parent)
        model = builders.get_lm_model(cfg)
    fill_model(model, with_own_attention_names(package["best_state"]), path)
    model.cfg = cfg  # type: ignore[assignment]
    return model.to(device).eval()


@contextmanager
def config_errors(path: Path) -> tp.Iterator[None]:
    """Context that reads a config, which may hold anything: whatever it stumbles over is told in one line."""
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except UserError as error:
        raise UserError(f"the config inside {path} does not work: {error}") from error
    except (
        *(LookupError, ArithmeticError, TypeError, ValueError, AttributeError, RuntimeError, MemoryError),
        OmegaConfBaseException,
    ) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else (str(error).splitlines() or [repr(error)])[0]
        raise UserError(
            f"the config inside {path} does not describe a model ({reason}); export the model again"
        ) from error


def codec_of(name: str | Path, package: Package) -> str:
    """Name of the codec that belongs to a language model.

    Args:
        name: what the language model was asked for by.
        package: what `load_lm_model_ckpt` returned for it.
    """
    path = package["path"]
    return locate.codec_name_of(name, path, package_config(package, path))


def load_compression_model_ckpt(file_or_url_or_id: str | Path, cache_dir: str | None = None) -> Package:
    """Read a codec's weights and config in the peer's layout, whatever layout it is stored in, without building it.

    Returns:
        As `load_lm_model_ckpt`; or `pretrained`, the name of another codec.
    Raises:
        UserError: nothing by that name, or a damaged file.
    """
    path = locate.find_codec(file_or_url_or_id, cache_dir)
    package = _read_package(path)
    if "pretrained" in package:
        return package
    if path.name == WEIGHTS_FILE:
        cfg = package_config(package, path)
        if not builders.is_codec(cfg) and "transformer_lm" in cfg:
            return {"pretrained": locate.trained_codec(cfg, path).removeprefix("//pretrained/"), "path": path}
    return {**package, "best_state": with_old_norm_names(package["best_state"])}


def load_compression_model(
    file_or_url_or_id: str | Path, device: torch.device | str = "cpu", cache_dir: str | None = None
) -> CompressionModel:
    """Load a codec (eval mode, float32) from any of the layouts known here.

    Raises:
        UserError: nothing by that name, no hub, a damaged file, or weights that do not fit their config.
    """
    if str(file_or_url_or_id).removeprefix("//pretrained/") == "debug_compression_model":
        return builders.get_debug_compression_model(device)
    return build_compression_model(codec_package(file_or_url_or_id, cache_dir), device)


def build_compression_model(package: Package, device: torch.device | str = "cpu") -> CompressionModel:
    """The codec of what `codec_package` returned."""
    path = package["path"]
    cfg = package_config(package, path)
    if not builders.is_codec(cfg):
        raise UserError(f"{path} is not a codec (its config has no encodec and no spectral); give one")
    cfg.device = "cpu"
    with config_errors(path), without_values("cpu", package["best_state"]):  # weight normalisation takes norms
        model = builders.get_compression_model(cfg)
    fill_model(model, package["best_state"], path)
    return model.to(device).eval()


def codec_package(name: str | Path, cache_dir: str | None = None, stop_at: tp.Collection[str] = ()) -> Package:
    """Weights and config of a codec as the peer lays them out, those that are only named looked up.

    Args:
        stop_at: names that are not looked up: the result is then `pretrained`, the name.
    Raises:
        UserError: as `load_compression_model_ckpt`, or names that lead nowhere.
    """
    asked = name
    for _ in range(_MOST_NAMES):
        if (bare := str(name).removeprefix("//pretrained/")) in stop_at:
            return {"pretrained": bare}
        package = load_compression_model_ckpt(name, cache_dir)
        if "pretrained" not in package:
            return package
        name = f"//pretrained/{package['pretrained']}"
    raise UserError(f"the codec {asked} only names others in turn ({name}); give one that has weights")


def _read_package(path: Path) -> Package:
    """Read an export, or a run's checkpoint as if it had been exported."""
    if path.suffix == ".safetensors":
        return _read_folder(path)
    package = read_package(path)
    if "pretrained" in package:
        if not isinstance(package["pretrained"], str) or not package["pretrained"]:
            raise UserError(f"{path} names no codec, though it should (pretrained); export the model again")
        return {**package, "path": path}
    if "exported" not in package and "model" in package:
        state_name, state = select_state(package, None, path)
        package = {"best_state": state, "xp.cfg": package.get("xp.cfg"), "state": state_name, "version": __version__}
    if not isinstance(package.get("best_state"), dict):
        raise UserError(f"{path} holds no weights (best_state); export the model again")
    check_tensors(package["best_state"], path)
    return {**package, "path": path}


def _read_folder(weights: Path) -> Package:
    """Read a model whose weights are a safetensors file: of our layout, or a codec of Hugging Face's."""
    config = weights.parent / CONFIG_FILE
    if config.is_file():
        # Bytes that are no text make no YAML either, which is told where it is read.
        text = config.read_text(encoding="utf-8", errors="replace")
        state = read_safetensors(weights)
    elif (weights.parent / HF_CONFIG_FILE).is_file():
        state, text = read_hf_codec(weights.parent)
    else:
        raise UserError(
            f"{weights.parent} has neither {CONFIG_FILE} (a model of ours) nor {HF_CONFIG_FILE} (a Hugging Face codec) "
            f"beside {weights.name}; copy the whole folder"
        )
    return {"best_state": state, "xp.cfg": text, "version": __version__, "path": weights}
