"""The codec of a run: kept beside its checkpoints, and checked against the language model before anything is built."""

from pathlib import Path

import torch
from flashy import distrib
from omegaconf import DictConfig

from ..checkpoints import locate
from ..checkpoints.locate import CODEC_FILE
from ..errors import UserError
from ..models.codec import CompressionModel
from ..models.export import export_pretrained_compression_model
from ..models.loaders import load_compression_model


def load_codec(cfg: DictConfig, folder: Path, device: torch.device) -> CompressionModel:
    """The codec of `compression_model_checkpoint`, from now on kept in the run's folder.

    Raises:
        UserError: it cannot be found, loaded or kept; the message begins with the key.
    """
    name = cfg.compression_model_checkpoint
    try:
        return load_compression_model(keep_codec(name, folder), device)
    except UserError as error:
        raise UserError(f"compression_model_checkpoint={name}: {error}") from error


def check_codec(name: str, folder: Path) -> None:
    """See whether the codec that a run is to begin with is there, where the run does not keep one; as `keep_codec`.

    Raises:
        UserError: nothing by that name.
    """
    if not _is_made_up(name) and not (folder / CODEC_FILE).is_file():
        locate.find_codec(name)


def _is_made_up(name: str) -> bool:
    return name.removeprefix("//pretrained/") == "debug_compression_model"


def keep_codec(name: str, folder: Path) -> str:
    """Keep the codec that a run begins with, so that it stays the same when the one of that name is trained further.

    Args:
        name: as `loaders.load_compression_model` takes it. Codecs that the peer knows by name are kept as that name.
        folder: of the run.

    Returns:
        What to load: the codec that was kept, now or when the run began.

    Raises:
        UserError: nothing by that name, a damaged file, a full disk.
    """
    kept = folder / CODEC_FILE
    if _is_made_up(name):
        return name
    if distrib.is_rank_zero() and not kept.is_file():
        export_pretrained_compression_model(name, kept)
    distrib.barrier()
    return str(kept)


def fit_codec(codec: CompressionModel, cfg: DictConfig) -> None:
    """Set the number of codebooks to `compression_model_n_q` and compare the codec with the configuration.

    Raises:
        UserError: rate, channels, codebooks or cardinality differ; the message names the keys to change.
    """
    name = cfg.compression_model_checkpoint
    if getattr(codec, "renormalize", False):
        raise UserError(
            f"the codec {name} scales every clip by its loudness (renormalize), which a language model cannot follow; "
            "choose another compression_model_checkpoint"
        )
    for key in ("sample_rate", "channels"):
        ours, theirs = cfg[key], getattr(codec, key)
        if ours != theirs:
            raise UserError(f"the codec {name} has {key} {theirs}, the configuration {ours}; set {key}={theirs}")
    n_q = cfg.compression_model_n_q
    if n_q is not None:
        if not 1 <= n_q <= codec.total_codebooks:
            raise UserError(
                f"compression_model_n_q={n_q}, but the codec {name} has {codec.total_codebooks} codebooks; "
                f"choose 1 to {codec.total_codebooks}"
            )
        codec.set_num_codebooks(n_q)
    lm = cfg.transformer_lm
    if lm.card != codec.cardinality:
        raise UserError(
            f"the codec {name} has {codec.cardinality} codes per codebook, the language model {lm.card}; "
            f"set transformer_lm.card={codec.cardinality}"
        )
    if lm.n_q != codec.num_codebooks:
        delays = ",".join(str(k) for k in range(codec.num_codebooks))
        fewer = f", or compression_model_n_q={lm.n_q}" if lm.n_q < codec.num_codebooks else ""
        raise UserError(
            f"the codec {name} gives {codec.num_codebooks} codebooks, the language model takes {lm.n_q}; "
            f"set transformer_lm.n_q={codec.num_codebooks} codebooks_pattern.delay.delays=[{delays}]{fewer}"
        )
