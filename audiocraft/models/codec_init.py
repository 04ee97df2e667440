"""First weights of a language model from the vectors of its codec: codes that sound alike start out alike."""

import typing as tp

import torch
from torch import Tensor

from ..errors import UserError
from .codec import CompressionModel
from .lm import LMModel


def get_codebooks(codec: CompressionModel) -> Tensor:
    """Vectors [K, card, D] of the codebooks in use, float32.

    Raises:
        UserError: the codec has no codebooks of vectors.
    """
    if codec.codebooks is None:
        raise UserError("the codec has no codebooks to start from; set init_from_codec=0")
    return codec.codebooks.float()


@torch.no_grad()
def init_from_codebooks(model: LMModel, codebooks: Tensor, share: float) -> None:
    """Draw the codes' embeddings and heads of `model` anew: their distances follow those of the codec's vectors.

    A model of random embeddings must learn for every single code what follows it, and from an hour of audio sees most
    codes a few dozen times. Here each codebook is centred, brought to unit scale and sent through a random matrix, of
    which `share` of the variance of the first weights is made; the rest stays as it was. Scales do not change,
    nor does the special token. The four matrices and their heads' are independent, so that codebooks stay apart.

    Args:
        model: K embeddings and heads, initialised.
        codebooks: [K, card, D].
        share: 0 to 1.

    Raises:
        UserError: `share` is out of range, or the codebooks are not those of the model.
    """
    if not 0 <= share <= 1:
        raise UserError(f"init_from_codec={share:g} is a share of the variance; give a number from 0 to 1")
    if codebooks.shape[:2] != (model.n_q, model.card):
        raise UserError(
            f"the codec has {codebooks.shape[0]} codebooks of {codebooks.shape[1]} codes, the model {model.n_q} of "
            f"{model.card}; set init_from_codec=0, or choose the codec that the model is for"
        )
    for k, vectors in enumerate(codebooks):
        vectors = vectors - vectors.mean(0)
        vectors = vectors / vectors.square().sum(1).mean().sqrt().clamp(min=1e-12)
        for layer in (model.emb[k], model.linears[k]):
            rows = tp.cast(Tensor, layer.weight)[: model.card]
            mixing = torch.randn(vectors.shape[1], rows.shape[1]).to(rows)
            placed = (vectors.to(rows) @ mixing) * rows.std()
            rows.mul_((1 - share) ** 0.5).add_(placed, alpha=share**0.5)
