"""How many entries of a codebook do any work."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class CodebookUsage:
    """Use of one codebook.

    Attributes:
        used: entries met at least once.
        bins: entries there are.
        perplexity: exp of the entropy of the entries' frequencies: how many equally used entries would say as much.
        top_share: share of frames that the most frequent entry takes.
    """

    used: int
    bins: int
    perplexity: float
    top_share: float


def codebook_usage(codes: torch.Tensor, bins: int) -> list[CodebookUsage]:
    """Use of each codebook in codes [B, K, F] with entries 0 … bins - 1."""
    usages = []
    for codebook in codes.transpose(0, 1).flatten(1):
        counts = torch.bincount(codebook.cpu(), minlength=bins).double()
        shares = counts / counts.sum().clamp(min=1)
        entropy = -torch.special.xlogy(shares, shares).sum()
        usages.append(CodebookUsage(int((counts > 0).sum()), bins, float(entropy.exp()), float(shares.max())))
    return usages
