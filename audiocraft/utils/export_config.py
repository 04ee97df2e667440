"""The config that travels in an export: the peer's keys, at values that its builders understand, and none of ours."""

import json
import math
import typing as tp
from pathlib import Path

if tp.TYPE_CHECKING:
    from omegaconf import DictConfig

# Our additions to the tree. Playing does not need them and the peer does not know them.
OUR_KEYS = (
    "checkpoint.every_minutes",
    "dataset.short",
    "dora",  # where this machine keeps its runs, and which of our keys leave the signature alone
    "logging.progress",
    "tokens.cache",
)
# Our values that the peer would stumble over, and what it would write there.
PEER_VALUES = {
    "device": ("auto", "cuda"),
    "autocast_dtype": ("auto", "float16"),
    "rvq.threshold_ema_dead_code": ("auto", 2),
}


def export_config(cfg: "DictConfig") -> str:
    """`xp.cfg` of an export, as YAML text.

    What the peer has and we do not is there at its defaults: without `transformer_lm.memory_efficient`, say, it builds
    another attention, whose weights have other names. `conditioners` is `{}` where there are none: its loader looks
    into it and fails on null.
    """
    from omegaconf import OmegaConf, open_dict

    from .peer_keys import add_peer_keys

    cfg = add_peer_keys(cfg)
    with open_dict(cfg):
        for key in OUR_KEYS:
            _drop(cfg, key)
        for key, (ours, theirs) in PEER_VALUES.items():
            if OmegaConf.select(cfg, key) == ours:
                OmegaConf.update(cfg, key, theirs)
        if "transformer_lm" in cfg:
            cfg.conditioners = cfg.get("conditioners") or {}
    return OmegaConf.to_yaml(cfg)


def hf_codec_config(config_file: Path) -> str:
    """`xp.cfg`, as YAML text, of a codec in the Hugging Face layout."""
    from omegaconf import OmegaConf

    hf = json.loads(config_file.read_text(encoding="utf-8"))
    causal = bool(hf["use_causal_conv"])
    hop = math.prod(hf["upsampling_ratios"])
    return OmegaConf.to_yaml(
        OmegaConf.create(
            {
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
                    "n_q": _codebooks(hf, hop),
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
        )
    )


def _codebooks(hf: dict[str, tp.Any], hop: int) -> int:
    """Codebooks that the Hugging Face layout has for its highest bandwidth (kb/s); it counts 10 bits for each code."""
    return int(1000 * hf["target_bandwidths"][-1] // (math.ceil(hf["sampling_rate"] / hop) * 10))


def _drop(cfg: "DictConfig", key: str) -> None:
    *parents, name = key.split(".")
    node: tp.Any = cfg
    for parent in parents:
        node = node.get(parent) if node is not None else None
    if node is not None:
        node.pop(name, None)
