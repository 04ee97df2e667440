"""Config → module. Each function reads the nodes of the peer's config that bear its name."""

import typing as tp

import torch
from torch import nn

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
from ..utils.config import check_node
from ..utils.left_out import missing
from .codec import CompressionModel
from .encodec import EncodecModel
from .lm import LMModel
from .spectral import SpectralModel
from .spectral_quantizer import SpectralQuantizer

if tp.TYPE_CHECKING:
    from omegaconf import DictConfig

_NORM_SIZES = ("num_groups", "num_channels", "device", "dtype")
# What a language model and its layers take that comes from elsewhere than the node transformer_lm.
_PARTS_OF_LM = ("pattern_provider", "condition_provider", "fuser")
_NOT_OPTIONS = {*_PARTS_OF_LM, "cfg_dropout", "cfg_coef", "attribute_dropout", "d_model", "dim_feedforward", "rope"}
_NOT_OPTIONS |= {"layer_class", "device", "dtype"}
# Keys of the peer's rvq node for a penalty that cannot act: codebooks follow moving averages and take no gradient.
_IDLE_RVQ_KEYS = ("orthogonal_reg_weight", "orthogonal_reg_active_codes_only", "orthogonal_reg_max_codes")


def get_node(cfg: "DictConfig | tp.Mapping[str, tp.Any]", name: str, optional: bool = False) -> dict[str, tp.Any]:
    """A node of the config as a plain dict, interpolations resolved.

    Args:
        optional: null and no node at all are an empty one.
    Raises:
        UserError: it is missing, or no node.
    """
    from omegaconf import OmegaConf

    node = cfg.get(name)
    if node is None and optional:
        return {}
    if node is None:
        kind, solver = ("language model", "musicgen") if name == "transformer_lm" else ("codec", "compression")
        raise UserError(f"the config has no node '{name}', which its {kind} needs; start from solver={solver}/default")
    return _as_dict(name, OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node)


def _as_dict(name: str, node: tp.Any) -> dict[str, tp.Any]:
    if not isinstance(node, dict):
        raise UserError(f"{name} is {node!r:.60}; it takes keys of its own")
    return node


def _construct(name: str, kind: tp.Callable[..., tp.Any], node: dict[str, tp.Any], **more: tp.Any) -> tp.Any:
    """Call `kind` with the values of a node, once they are known to be what it takes, and with others."""
    check_node(name, {key: value for key, value in node.items() if key not in more}, kind, but=more)
    return kind(**{**node, **more})


def get_quantizer(quantizer: str, cfg: "DictConfig", dimension: int) -> BaseQuantizer:
    """Quantiser 'rvq' or 'no_quant' for latents of width `dimension`, from the config node of that name."""
    if quantizer == "no_quant":
        return DummyQuantizer()
    if quantizer != "rvq":
        raise UserError(f"unknown quantizer '{quantizer}'; choose rvq or no_quant")
    node = get_node(cfg, "rvq")
    idle = {key: node.pop(key, None) for key in _IDLE_RVQ_KEYS}
    if idle["orthogonal_reg_weight"]:
        raise UserError("rvq.orthogonal_reg_weight has no effect on codebooks of moving averages; set it to 0.0")
    return _construct("rvq", ResidualVectorQuantizer, node, dimension=dimension)


def get_encodec_autoencoder(encoder_name: str, cfg: "DictConfig") -> tuple[SEANetEncoder, SEANetDecoder]:
    """Encoder and decoder 'seanet' from the config node of that name."""
    if encoder_name != "seanet":
        raise UserError(f"unknown autoencoder '{encoder_name}'; choose seanet")
    node = get_node(cfg, "seanet")
    own = {part: _as_dict(f"seanet.{part}", node.pop(part, None) or {}) for part in ("encoder", "decoder")}
    for each in (node, *own.values()):
        norm_params = _as_dict("seanet.norm_params", each.get("norm_params") or {})
        check_node("seanet.norm_params", norm_params, nn.GroupNorm, but=_NORM_SIZES)
    return (
        _construct("seanet", SEANetEncoder, {**node, **own["encoder"]}),
        _construct("seanet", SEANetDecoder, {**node, **own["decoder"]}),
    )


def get_compression_model(cfg: "DictConfig") -> CompressionModel:
    """Codec from nodes encodec, seanet and rvq, or spectral and rvq, with random weights, on torch's default device."""
    name = cfg.get("compression_model", "encodec")
    if name == "spectral":
        return _construct("spectral", _spectral_model, get_node(cfg, "spectral"), cfg=cfg)
    if name != "encodec":
        raise UserError(f"unknown compression_model '{name}'; choose encodec or spectral")
    node = get_node(cfg, "encodec")
    node.pop("renorm", None)  # an early name of the peer for a scheme that none of its models kept
    parts = {key: node.pop(key, None) for key in ("autoencoder", "quantizer")}
    later = ("encoder", "decoder", "quantizer", "frame_rate")
    check_node("encodec", node, EncodecModel, but=later)
    encoder, decoder = get_encodec_autoencoder(parts["autoencoder"], cfg)
    quantizer = get_quantizer(parts["quantizer"], cfg, encoder.dimension)
    frame_rate = node["sample_rate"] // encoder.hop_length
    if frame_rate < 1:
        raise UserError(f"a frame of {encoder.hop_length} samples lasts over a second; lower seanet.ratios")
    return EncodecModel(**dict(zip(later, (encoder, decoder, quantizer, frame_rate))), **node)


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


def get_lm_model(cfg: "DictConfig") -> LMModel:
    """Language model from the node transformer_lm and those of patterns and conditions.

    It has random weights and is on torch's default device. Takes the config of a run and that of a checkpoint.

    Raises:
        UserError: a key or a value that is not served.
    """
    name = cfg.get("lm_model", "transformer_lm")
    if name != "transformer_lm":
        raise UserError(f"unknown lm_model '{name}'; choose transformer_lm")
    node = get_node(cfg, "transformer_lm")
    if not node.setdefault("causal", True):
        raise UserError("transformer_lm.causal must be true: a language model does not see the future")
    delays_by_default = node.pop("q_modeling", None)
    node = {"n_q": None, "dim": None, **node}  # neither has a default that would do
    check_node("transformer_lm", node, LMModel, StreamingTransformer, StreamingTransformerLayer, but=_NOT_OPTIONS)
    pattern = get_node(cfg, "codebooks_pattern", optional=True)
    if pattern.get("modeling") is None:
        # The peer's first checkpoints name the pattern in the model's node.
        if delays_by_default is None:
            raise UserError("the config names no pattern; set codebooks_pattern.modeling=delay")
        pattern = {"modeling": delays_by_default}
    provider = get_conditioner_provider(node["dim"], cfg)
    fuser = get_condition_fuser(cfg)
    unused = sorted(set(provider.conditioners) - set(fuser.cond2fuse))
    if unused:
        raise UserError(f"the condition '{unused[0]}' does not enter the model; name it under fuser.cross")
    if fuser.fuse2cond["cross"]:
        node["cross_attention"] = True
    if node.get("cross_attention") and not set(fuser.fuse2cond["cross"]) & set(provider.conditioners):
        raise UserError(
            "transformer_lm.cross_attention has no condition to look at; set it to false, or name a conditioner"
        )
    guidance = get_node(cfg, "classifier_free_guidance", optional=True)
    dropout = get_node(cfg, "attribute_dropout", optional=True)
    dropout.pop("args", None)
    more = {
        "cfg_dropout": guidance.get("training_dropout", 0.0),
        "cfg_coef": guidance.get("inference_coef", 1.0),
        "attribute_dropout": dropout,
    }
    check_node("classifier_free_guidance or attribute_dropout", more, LMModel, but=_PARTS_OF_LM)
    return LMModel(get_codebooks_pattern_provider(node["n_q"], pattern), provider, fuser, **more, **node)


def get_conditioner_provider(output_dim: int, cfg: "DictConfig") -> ConditioningProvider:
    """Conditioners from the node conditioners; null, {} and no node at all are each `conditioner=none`.

    Args:
        output_dim: D of the language model.
        cfg: the whole config.

    Raises:
        UserError: a conditioner other than t5, or options of it that are not served.
    """
    conditioners: dict[str, BaseConditioner] = {}
    for name, node in get_node(cfg, "conditioners", optional=True).items():
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
        if not str(name).isidentifier() or hasattr(nn.ModuleDict, name):
            raise UserError(f"conditioners.{name} cannot have that name; choose another")
        conditioners[name] = _construct(f"conditioners.{name}.t5", T5Conditioner, node["t5"], output_dim=output_dim)
    return ConditioningProvider(conditioners)


def get_condition_fuser(cfg: "DictConfig") -> ConditionFuser:
    """How conditions enter, from the node fuser."""
    node = get_node(cfg, "fuser", optional=True)
    options = {str(key): node.pop(key) for key in list(node) if str(key).startswith("cross_attention")}
    check_node("fuser", options, ConditionFuser, but=("fuse2cond",))
    fuse2cond = {way: [names] if isinstance(names, str) else names or [] for way, names in node.items()}
    for way, names in fuse2cond.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"fuser.{way} is {names!r:.60}; it takes a list of conditions")
    return ConditionFuser(fuse2cond, **options)


_PATTERNS: dict[str, tuple[str, type[CodebooksPatternProvider]]] = {
    "parallel": ("parallel", ParallelPatternProvider),
    "delay": ("delay", DelayedPatternProvider),
    "unroll": ("unroll", UnrolledPatternProvider),
    "coarse_first": ("coarse_first", CoarseFirstPattern),
    "music_lm": ("music_lm", MusicLMPattern),
    "musiclm": ("music_lm", MusicLMPattern),  # the peer's spelling of the choice, though not of the node
}


def get_codebooks_pattern_provider(n_q: int, cfg: "DictConfig | tp.Mapping[str, tp.Any]") -> CodebooksPatternProvider:
    """Pattern of K = `n_q` codebooks from the node codebooks_pattern: `modeling` names the node with its options."""
    modeling = str(cfg["modeling"])
    if modeling not in _PATTERNS:
        raise UserError(f"unknown codebooks_pattern.modeling '{modeling}'; choose one of {', '.join(_PATTERNS)}")
    name, kind = _PATTERNS[modeling]
    return _construct(f"codebooks_pattern.{name}", kind, get_node(cfg, name, optional=True), n_q=n_q)


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
