"""Codecs in the Hugging Face layout of `facebook/encodec_32khz` (config.json + model.safetensors), read without
transformers.

The layout is the same network under other names, with one codebook row per `quantizer.layers`, and pads by reflection.
"""

import json
import math
import re
import typing as tp
from pathlib import Path

import torch

from ..errors import UserError
from ..modules.seanet import SEANetDecoder, SEANetEncoder
from ..quantization import ResidualVectorQuantizer
from .encodec import EncodecModel

_NEWER_NORM_NAMES = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


def is_hf_encodec(folder: str | Path) -> bool:
    """Whether `folder` holds a codec in this layout."""
    config = Path(folder) / "config.json"
    if not config.is_file():
        return False
    try:
        return json.loads(config.read_text(encoding="utf-8")).get("model_type") == "encodec"
    except (OSError, ValueError, AttributeError):
        return False


def map_hf_key(key: str, upsampling: tp.Collection[int]) -> str:
    """Our state-dict key for one of theirs; `upsampling` lists the decoder's layers that are transposed
    convolutions."""
    for theirs, ours in _NEWER_NORM_NAMES.items():
        key = key.replace(theirs, ours)
    if key.startswith("quantizer."):
        return key.replace("quantizer.layers.", "quantizer.vq.layers.").replace(".codebook.", "._codebook.")
    key = re.sub(r"^(encoder|decoder)\.layers\.", r"\1.model.", key)
    layer = re.match(r"decoder\.model\.(\d+)\.(conv|norm)\.", key)
    ours = "convtr" if layer and int(layer[1]) in upsampling else "conv"
    key = re.sub(r"\.conv\.(?=bias|weight)", f".{ours}.{ours}.", key)
    return re.sub(r"\.norm\.(?=bias|weight)", f".{ours}.norm.", key)


def model_from_hf_config(config: dict[str, tp.Any], n_codebooks: int) -> EncodecModel:
    """Untrained codec as `config` describes it. Raises UserError for what only the peer's 48 kHz model uses."""
    if config.get("chunk_length_s") is not None:
        raise UserError(
            "this codec cuts audio into overlapping chunks (chunk_length_s), which is not served; "
            "use facebook/encodec_32khz or //pretrained/mini_32khz"
        )
    ratios = list(config["upsampling_ratios"])
    causal = bool(config["use_causal_conv"])
    shared: dict[str, tp.Any] = {
        "channels": config["audio_channels"],
        "dimension": config["hidden_size"],
        "n_filters": config["num_filters"],
        "n_residual_layers": config["num_residual_layers"],
        "ratios": ratios,
        "norm": config["norm_type"],
        "kernel_size": config["kernel_size"],
        "last_kernel_size": config["last_kernel_size"],
        "residual_kernel_size": config["residual_kernel_size"],
        "dilation_base": config["dilation_growth_rate"],
        "causal": causal,
        "pad_mode": config["pad_mode"],
        "true_skip": not config["use_conv_shortcut"],
        "compress": config["compress"],
        "lstm": config["num_lstm_layers"],
    }
    encoder = SEANetEncoder(**shared)
    trim = config.get("trim_right_ratio", 1.0) if causal else 1.0
    decoder = SEANetDecoder(**shared, trim_right_ratio=trim)
    quantizer = ResidualVectorQuantizer(
        dimension=config["hidden_size"], n_q=n_codebooks, bins=config["codebook_size"], kmeans_init=False
    )
    sample_rate = config["sampling_rate"]
    return EncodecModel(
        encoder,
        decoder,
        quantizer,
        frame_rate=math.ceil(sample_rate / math.prod(ratios)),
        sample_rate=sample_rate,
        channels=config["audio_channels"],
        causal=causal,
        renormalize=bool(config["normalize"]),
    )


def load_hf_encodec(folder: str | Path) -> EncodecModel:
    """Codec from a folder with config.json and model.safetensors, in eval mode on the CPU.

    Raises UserError if a file is missing, damaged, or does not describe a codec that this project can build.
    """
    import safetensors
    import safetensors.torch

    folder = Path(folder)
    config_path, weights_path = folder / "config.json", folder / "model.safetensors"
    for path in (config_path, weights_path):
        if not path.is_file():
            raise UserError(
                f"{folder} lacks {path.name}; a Hugging Face codec is a config.json and a model.safetensors"
            )
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
        state = safetensors.torch.load_file(weights_path)
    except (ValueError, OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{folder} holds a damaged codec ({error}); fetch it again") from None
    if not isinstance(config, dict) or config.get("model_type") != "encodec":
        raise UserError(f"{config_path} does not describe an EnCodec model; give a folder with model_type encodec")
    layers = [key for key in state if re.fullmatch(r"quantizer\.layers\.\d+\.codebook\.embed", key)]
    if not layers:
        raise UserError(f"{weights_path} holds no codebooks, so it is not an EnCodec model; fetch it again")
    try:
        model = model_from_hf_config(config, len(layers))
    except KeyError as error:
        raise UserError(f"{config_path} lacks the key {error}; fetch it again") from None
    ours = model.state_dict()
    upsampling = {int(key.split(".")[2]) for key in ours if key.startswith("decoder.model.") and ".convtr." in key}
    mapped: dict[str, torch.Tensor] = {map_hf_key(key, upsampling): value.float() for key, value in state.items()}
    wrong = [k for k in ours if k not in mapped or mapped[k].shape != ours[k].shape] or sorted(set(mapped) - set(ours))
    if wrong:
        raise UserError(f"{weights_path} does not fit its config.json at '{wrong[0]}'; fetch both again")
    model.load_state_dict(mapped)
    return model.eval()
