"""Codecs in the Hugging Face layout of `facebook/encodec_32khz` (config.json + model.safetensors), read without
transformers.

The layout is the same network under other names, with one codebook row per `quantizer.layers`, and pads by reflection.
"""

import re
import typing as tp
from pathlib import Path

import torch

from ..errors import UserError
from ..utils.files import read_json
from .locate import HF_CONFIG_FILE, WEIGHTS_FILE
from .weights import old_norm_name, read_safetensors


def map_hf_key(key: str, upsampling: tp.Collection[int]) -> str:
    """Our state-dict key for one of theirs; `upsampling` lists the decoder's layers that are transposed
    convolutions."""
    key = old_norm_name(key)
    if key.startswith("quantizer."):
        return key.replace("quantizer.layers.", "quantizer.vq.layers.").replace(".codebook.", "._codebook.")
    key = re.sub(r"^(encoder|decoder)\.layers\.", r"\1.model.", key)
    layer = re.match(r"decoder\.model\.(\d+)\.(conv|norm)\.", key)
    ours = "convtr" if layer and int(layer[1]) in upsampling else "conv"
    key = re.sub(r"\.conv\.(?=bias|weight)", f".{ours}.{ours}.", key)
    return re.sub(r"\.norm\.(?=bias|weight)", f".{ours}.norm.", key)


def map_hf_state(state: tp.Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Their weights under our names."""
    # Of the decoder's convolutions outside residual blocks the first and the last keep the rate, all others raise it.
    plain = {int(m[1]) for key in state if (m := re.match(r"decoder\.layers\.(\d+)\.conv\.", key))}
    return {map_hf_key(key, sorted(plain)[1:-1]): value for key, value in state.items()}


def map_hf_config(hf: dict[str, tp.Any], n_codebooks: int) -> str:
    """Their config.json as the peer's config, YAML text.

    Args:
        hf: content of config.json.
        n_codebooks: K; the file itself has it only as a bandwidth.
    Raises:
        UserError: something that only the peer's 48 kHz model uses.
        KeyError: a key is missing.
    """
    from omegaconf import OmegaConf

    if hf.get("chunk_length_s") is not None:
        raise UserError(
            "this codec cuts audio into overlapping chunks (chunk_length_s), which is not served; "
            "use facebook/encodec_32khz or //pretrained/spectral_32khz"
        )
    causal = bool(hf["use_causal_conv"])
    cfg = {
        "device": "cpu",
        "dtype": "float32",
        "solver": "compression",
        "sample_rate": hf["sampling_rate"],
        "channels": hf["audio_channels"],
        "compression_model": "encodec",
        "encodec": {
            "autoencoder": "seanet",
            "quantizer": "rvq",
            "sample_rate": hf["sampling_rate"],
            "channels": hf["audio_channels"],
            "causal": causal,
            "renormalize": bool(hf["normalize"]),
        },
        "seanet": {
            "dimension": hf["hidden_size"],
            "channels": hf["audio_channels"],
            "causal": causal,
            "n_filters": hf["num_filters"],
            "n_residual_layers": hf["num_residual_layers"],
            "ratios": hf["upsampling_ratios"],
            "activation": "ELU",
            "activation_params": {"alpha": 1.0},
            "norm": hf["norm_type"],
            "norm_params": {},
            "kernel_size": hf["kernel_size"],
            "residual_kernel_size": hf["residual_kernel_size"],
            "last_kernel_size": hf["last_kernel_size"],
            "dilation_base": hf["dilation_growth_rate"],
            "pad_mode": hf["pad_mode"],
            "true_skip": not hf["use_conv_shortcut"],
            "compress": hf["compress"],
            "lstm": hf["num_lstm_layers"],
            "disable_norm_outer_blocks": 0,
            "decoder": {
                "trim_right_ratio": hf.get("trim_right_ratio", 1.0) if causal else 1.0,
                "final_activation": None,
                "final_activation_params": None,
            },
            "encoder": {},
        },
        "rvq": {
            "n_q": n_codebooks,
            "q_dropout": False,
            "bins": hf["codebook_size"],
            "decay": 0.99,
            "kmeans_init": True,
            "kmeans_iters": 50,
            "threshold_ema_dead_code": 2,
            "orthogonal_reg_weight": 0.0,
            "orthogonal_reg_active_codes_only": False,
        },
        "no_quant": {},
    }
    return OmegaConf.to_yaml(OmegaConf.create(cfg))


def read_hf_codec(folder: str | Path) -> tuple[dict[str, torch.Tensor], str]:
    """Weights, under our names, and config, as the peer's YAML text, of a folder with config.json and
    model.safetensors.

    Raises:
        UserError: a file is missing, damaged, or describes no codec that this project can build.
    """
    folder = Path(folder)
    config_path, weights_path = folder / HF_CONFIG_FILE, folder / WEIGHTS_FILE
    try:
        hf = read_json(config_path)
    except (ValueError, OSError) as error:
        raise UserError(f"{config_path} is damaged ({error}); fetch it again") from None
    if not isinstance(hf, dict) or hf.get("model_type") != "encodec":
        raise UserError(f"{config_path} does not describe an EnCodec model; give a folder with model_type encodec")
    state = read_safetensors(weights_path)
    layers = [key for key in state if re.fullmatch(r"quantizer\.layers\.\d+\.codebook\.embed", key)]
    if not layers:
        raise UserError(f"{weights_path} holds no codebooks, so it is not an EnCodec model; fetch it again")
    try:
        return map_hf_state(state), map_hf_config(hf, len(layers))
    except KeyError as error:
        raise UserError(f"{config_path} lacks the key {error}; fetch it again") from None
