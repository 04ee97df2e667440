"""Config → module. Each function reads the nodes of the peer's config that bear its name."""

import typing as tp

import torch

from ..errors import UserError
from ..modules.codebooks_patterns import (
    CoarseFirstPattern,
    CodebooksPatternProvider,
    DelayedPatternProvider,
    MusicLMPattern,
    ParallelPatternProvider,
    UnrolledPatternProvider,
)
from ..modules.conditioners import (
    BaseConditioner,
    ConditionFuser,
    ConditioningProvider,
    T5Conditioner,
    WordConditioner,
)
from ..modules.seanet import SEANetDecoder, SEANetEncoder
from ..modules.transformer import StreamingTransformer, StreamingTransformerLayer
from ..quantization import BaseQuantizer, DummyQuantizer, ResidualVectorQuantizer
from ..utils.left_out import missing
from .codec import CompressionModel
from .encodec import EncodecModel
from .lm import LMModel
from .spectral import SpectralModel
from .spectral_quantizer import SpectralQuantizer

if tp.TYPE_CHECKING:
    from omegaconf import DictConfig

# Keys of the peer's rvq node for a penalty that cannot act: codebooks follow moving averages and take no gradient.
_IDLE_RVQ_KEYS = ("orthogonal_reg_weight", "orthogonal_reg_active_codes_only", "orthogonal_reg_max_codes")


def _node(cfg: "DictConfig", name: str) -> dict[str, tp.Any]:
    """A node of the config as a plain dict, interpolations resolved. Raises UserError if it is missing."""
    from omegaconf import OmegaConf

    node = OmegaConf.select(cfg, name)
    if node is None:
        kind, solver = ("language model", "musicgen") if name == "transformer_lm" else ("codec", "compression")
        raise UserError(f"the config has no node '{name}', which its {kind} needs; start from solver={solver}/default")
    return tp.cast(dict[str, tp.Any], OmegaConf.to_container(node, resolve=True))


def _construct(name: str, kind: tp.Callable[..., tp.Any], kwargs: dict[str, tp.Any]) -> tp.Any:
    """Call `kind`, and turn an argument it does not have into a UserError that names the config node."""
    import inspect

    known = inspect.signature(kind).parameters
    unknown = sorted(set(kwargs) - set(known))
    if unknown:
        raise UserError(f"unknown key '{name}.{unknown[0]}'; known are {', '.join(known)}")
    return kind(**kwargs)


def get_quantizer(quantizer: str, cfg: "DictConfig", dimension: int) -> BaseQuantizer:
    """Quantiser 'rvq' or 'no_quant' for latents of width `dimension`, from the config node of that name."""
    if quantizer == "no_quant":
        return DummyQuantizer()
    if quantizer != "rvq":
        raise UserError(f"unknown quantizer '{quantizer}'; choose rvq or no_quant")
    kwargs = _node(cfg, "rvq")
    idle = {key: kwargs.pop(key, None) for key in _IDLE_RVQ_KEYS}
    if idle["orthogonal_reg_weight"]:
        raise UserError("rvq.orthogonal_reg_weight has no effect on codebooks of moving averages; set it to 0.0")
    return _construct("rvq", ResidualVectorQuantizer, {**kwargs, "dimension": dimension})


def get_encodec_autoencoder(encoder_name: str, cfg: "DictConfig") -> tuple[SEANetEncoder, SEANetDecoder]:
    """Encoder and decoder 'seanet' from the config node of that name."""
    if encoder_name != "seanet":
        raise UserError(f"unknown autoencoder '{encoder_name}'; choose seanet")
    kwargs = _node(cfg, "seanet")
    encoder_kwargs = {**kwargs, **(kwargs.pop("encoder", None) or {})}
    decoder_kwargs = {**kwargs, **(kwargs.pop("decoder", None) or {})}
    for overrides in (encoder_kwargs, decoder_kwargs):
        overrides.pop("encoder", None)
        overrides.pop("decoder", None)
    return (
        _construct("seanet", SEANetEncoder, encoder_kwargs),
        _construct("seanet", SEANetDecoder, decoder_kwargs),
    )


def is_codec(cfg: "DictConfig") -> bool:
    """Whether a config describes a codec."""
    return "encodec" in cfg or "spectral" in cfg


def get_compression_model(cfg: "DictConfig") -> CompressionModel:
    """Codec from nodes encodec, seanet and rvq, or spectral and rvq, with random weights, on torch's default device."""
    name = cfg.get("compression_model", "encodec")
    if name == "spectral":
        return _construct("spectral", _spectral_model, {"cfg": cfg, **_node(cfg, "spectral")})
    if name != "encodec":
        raise UserError(f"unknown compression_model '{name}'; choose encodec or spectral")
    kwargs = _node(cfg, "encodec")
    kwargs.pop("renorm", None)  # an early name of the peer for a scheme that none of its models kept
    for key in ("sample_rate", "channels"):
        if not isinstance(kwargs.get(key), int) or kwargs[key] < 1:
            raise UserError(f"encodec.{key} is {kwargs.get(key)!r}; it takes a whole number from 1")
    encoder, decoder = get_encodec_autoencoder(kwargs.pop("autoencoder"), cfg)
    quantizer = get_quantizer(kwargs.pop("quantizer"), cfg, encoder.dimension)
    frame_rate = kwargs["sample_rate"] // encoder.hop_length
    if frame_rate < 1:
        raise UserError(f"a frame of {encoder.hop_length} samples lasts over a second; lower seanet.ratios")
    parts = {"encoder": encoder, "decoder": decoder, "quantizer": quantizer, "frame_rate": frame_rate}
    return _construct("encodec", EncodecModel, {**kwargs, **parts})


def _spectral_model(cfg: "DictConfig", dimension: int) -> SpectralModel:
    """`dimension`: principal components of the envelope; rvq are its codebooks, one fewer than the codec's."""
    return SpectralModel(SpectralQuantizer(get_quantizer("rvq", cfg, dimension)))  # type: ignore[arg-type]


def get_debug_compression_model(device: torch.device | str = "cpu", sample_rate: int = 32000) -> CompressionModel:
    """Tiny codec with random weights for tests: 4 codebooks of 400 codes, 25 frames/s at 16 or 32 kHz."""
    if sample_rate not in (16000, 32000):
        raise UserError(f"no debug codec at {sample_rate} Hz; choose 16000 or 32000")
    shared: dict[str, tp.Any] = {
        "channels": 1,
        "dimension": 32,
        "n_filters": 4,
        "n_residual_layers": 1,
        "ratios": [10, 8, sample_rate // 2000],
    }
    encoder, decoder = SEANetEncoder(**shared), SEANetDecoder(**shared)
    quantizer = ResidualVectorQuantizer(dimension=32, n_q=4, bins=400, kmeans_init=False)
    model = EncodecModel(
        encoder, decoder, quantizer, frame_rate=sample_rate // encoder.hop_length, sample_rate=sample_rate, channels=1
    )
    return model.to(device).eval()


def _optional_node(cfg: "DictConfig", name: str) -> dict[str, tp.Any]:
    """As `_node`; empty where the config has null or nothing."""
    from omegaconf import OmegaConf

    return {} if OmegaConf.select(cfg, name) is None else _node(cfg, name)


def _lm_options() -> set[str]:
    """Keys of transformer_lm: what the model, its transformer and its layers take, less what comes from elsewhere."""
    import inspect

    kinds: tuple[tp.Callable[..., tp.Any], ...] = (LMModel, StreamingTransformer, StreamingTransformerLayer)
    taken = {name for kind in kinds for name in inspect.signature(kind).parameters}
    elsewhere = {"pattern_provider", "condition_provider", "fuser", "cfg_dropout", "cfg_coef", "attribute_dropout"}
    return taken - elsewhere - {"d_model", "dim_feedforward", "rope", "layer_class", "device", "dtype", "kwargs"}


def get_lm_model(cfg: "DictConfig") -> LMModel:
    """Language model from the node transformer_lm and those of patterns and conditions.

    It has random weights and is on torch's default device. Takes the config of a run and that of a checkpoint.

    Raises:
        UserError: a key or a value that is not served.
    """
    name = cfg.get("lm_model", "transformer_lm")
    if name != "transformer_lm":
        raise UserError(f"unknown lm_model '{name}'; choose transformer_lm")
    kwargs = _node(cfg, "transformer_lm")
    if not kwargs.setdefault("causal", True):
        raise UserError("transformer_lm.causal must be true: a language model does not see the future")
    delays_by_default = kwargs.pop("q_modeling", None)
    unknown = sorted(set(kwargs) - _lm_options())
    if unknown:
        raise UserError(f"unknown key 'transformer_lm.{unknown[0]}'; known are {', '.join(sorted(_lm_options()))}")

    n_q = kwargs["n_q"]
    pattern_cfg = cfg.get("codebooks_pattern")
    if pattern_cfg is None or pattern_cfg.get("modeling") is None:
        # The peer's first checkpoints name the pattern in the model's node.
        if delays_by_default is None:
            raise UserError("the config names no pattern; set codebooks_pattern.modeling=delay")
        from omegaconf import OmegaConf

        pattern_cfg = OmegaConf.create({"modeling": delays_by_default, delays_by_default: {}})
    provider = get_conditioner_provider(kwargs["dim"], cfg)
    fuser = get_condition_fuser(cfg)
    unused = sorted(set(provider.conditioners) - set(fuser.cond2fuse))
    if unused:
        raise UserError(f"the condition '{unused[0]}' does not enter the model; name it under fuser.cross")
    if fuser.fuse2cond["cross"]:
        kwargs["cross_attention"] = True
    if kwargs.get("cross_attention") and not set(fuser.fuse2cond["cross"]) & set(provider.conditioners):
        raise UserError(
            "transformer_lm.cross_attention has no condition to look at; set it to false, or name a conditioner"
        )
    guidance = _optional_node(cfg, "classifier_free_guidance")
    dropout = _optional_node(cfg, "attribute_dropout")
    dropout.pop("args", None)
    return LMModel(
        pattern_provider=get_codebooks_pattern_provider(n_q, pattern_cfg),
        condition_provider=provider,
        fuser=fuser,
        cfg_dropout=guidance.get("training_dropout", 0.0),
        cfg_coef=guidance.get("inference_coef", 1.0),
        attribute_dropout=dropout,
        **kwargs,
    )


def get_conditioner_provider(output_dim: int, cfg: "DictConfig") -> ConditioningProvider:
    """Conditioners from the node conditioners; null, {} and no node at all are each `conditioner=none`.

    Args:
        output_dim: D of the language model.
        cfg: the whole config.

    Raises:
        UserError: a conditioner other than t5, or options of it that are not served.
    """
    conditioners: dict[str, BaseConditioner] = {}
    for name, node in _optional_node(cfg, "conditioners").items():
        if name == "args":  # the peer keeps options of its dataset here
            continue
        kind = node.get("model") if isinstance(node, dict) else node
        if kind != "t5":
            raise UserError(
                f"conditioners.{name} is a '{kind}', which is not served; use t5 or conditioner=none "
                "(see docs/COMPATIBILITY.md)"
            )
        if not isinstance(node, dict) or not isinstance(node.get("t5"), dict):
            raise UserError(f"conditioners.{name} has no node t5 with its name; see config/conditioner/text2music.yaml")
        conditioners[name] = _construct(
            f"conditioners.{name}.t5", T5Conditioner, {**node["t5"], "output_dim": output_dim}
        )
    return ConditioningProvider(conditioners)


def get_condition_fuser(cfg: "DictConfig") -> ConditionFuser:
    """How conditions enter, from the node fuser."""
    node = _optional_node(cfg, "fuser")
    return ConditionFuser(
        cross_attention_pos_emb=node.pop("cross_attention_pos_emb", False),
        cross_attention_pos_emb_scale=node.pop("cross_attention_pos_emb_scale", 1.0),
        fuse2cond={way: [names] if isinstance(names, str) else names or [] for way, names in node.items()},
    )


_PATTERNS: dict[str, tuple[str, type[CodebooksPatternProvider]]] = {
    "parallel": ("parallel", ParallelPatternProvider),
    "delay": ("delay", DelayedPatternProvider),
    "unroll": ("unroll", UnrolledPatternProvider),
    "coarse_first": ("coarse_first", CoarseFirstPattern),
    "music_lm": ("music_lm", MusicLMPattern),
    "musiclm": ("music_lm", MusicLMPattern),  # the peer's spelling of the choice, though not of the node
}


def get_codebooks_pattern_provider(n_q: int, cfg: "DictConfig") -> CodebooksPatternProvider:
    """Pattern of K = `n_q` codebooks from the node codebooks_pattern: `modeling` names the node with its options."""
    if cfg.modeling not in _PATTERNS:
        raise UserError(f"unknown codebooks_pattern.modeling '{cfg.modeling}'; choose one of {', '.join(_PATTERNS)}")
    node, kind = _PATTERNS[cfg.modeling]
    return _construct(f"codebooks_pattern.{node}", kind, {"n_q": n_q, **_optional_node(cfg, node)})


def get_debug_lm_model(device: torch.device | str = "cpu") -> LMModel:
    """Tiny language model with random weights for tests, that takes texts: 4 codebooks of 400 codes."""
    lm = LMModel(
        DelayedPatternProvider(n_q=4),
        ConditioningProvider({"description": WordConditioner(output_dim=16)}),
        ConditionFuser({"cross": ["description"]}),
        n_q=4,
        card=400,
        dim=16,
        num_heads=4,
        num_layers=2,
        causal=True,
        cross_attention=True,
    )
    return lm.to(device).eval()


__getattr__ = missing(__name__)
