"""From a name to a model: what is read of it (`checkpoints.packages`), built.

Models are built without values and take their weights straight from the mapped file: loading costs about one reading
of the file, and no random start that would be thrown away.
"""

import typing as tp
from contextlib import contextmanager
from pathlib import Path

import torch

from ..checkpoints import local_t5
from ..checkpoints.configs import package_config, trained_rate, trained_reach
from ..checkpoints.packages import Package, codec_package, is_codec, load_compression_model_ckpt, load_lm_model_ckpt
from ..checkpoints.weights import fill_model, with_own_attention_names, without_values
from ..errors import UserError
from ..utils import left_out
from ..utils.hub import get_audiocraft_cache_dir
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
    with _telling(path), without_values("meta", package["best_state"]):
        if builders.get_node(cfg, "interleave_stereo_codebooks", optional=True).get("use"):
            raise UserError(left_out.message("interleaved stereo"))
        for read in (trained_rate, trained_reach):  # `genmodel` will ask for them
            read(cfg)
        local_t5.resolve(cfg, path.parent)
        model = builders.get_lm_model(cfg)
    fill_model(model, with_own_attention_names(package["best_state"]), path)
    model.cfg = cfg  # type: ignore[assignment]
    return model.to(device).eval()


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
    if not is_codec(cfg):
        raise UserError(f"{path} is not a codec (its config has no encodec and no spectral); give one")
    cfg.device = "cpu"
    with _telling(path), without_values("cpu", package["best_state"]):  # weight normalisation takes norms
        model = builders.get_compression_model(cfg)
    fill_model(model, package["best_state"], path)
    return model.to(device).eval()


@contextmanager
def _telling(path: Path) -> tp.Iterator[None]:
    """Context in which a config is wrong that came with these weights."""
    try:
        yield
    except UserError as error:
        raise UserError(f"the config inside {path} does not work: {error}") from error
