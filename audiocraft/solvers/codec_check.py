"""Whether a codec and the language model that is to be trained on its codes fit, said before anything is built."""

from omegaconf import DictConfig

from ..errors import UserError
from ..models.encodec import CompressionModel


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
