"""How many entries of a codebook do any work."""

import math
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

    @property
    def bits(self) -> float:
        """The entropy, in bits per frame: what an ideal code for these frequencies needs, at most log2(bins)."""
        return math.log2(max(self.perplexity, 1.0))


def count_codes(codes: torch.Tensor, bins: int) -> torch.Tensor:
    """How often each entry of each codebook occurs in codes [B, K, F] with entries 0 … bins - 1: [K, bins] int64."""
    return torch.stack([torch.bincount(one.cpu(), minlength=bins) for one in codes.transpose(0, 1).flatten(1)])


def usage_of_counts(counts: torch.Tensor) -> list[CodebookUsage]:
    """Use of each codebook of what `count_codes` returned, or of sums of it."""
    usages = []
    for count in counts.double():
        shares = count / count.sum().clamp(min=1)
        entropy = -torch.special.xlogy(shares, shares).sum()
        usages.append(CodebookUsage(int((count > 0).sum()), len(count), float(entropy.exp()), float(shares.max())))
    return usages


def codebook_usage(codes: torch.Tensor, bins: int) -> list[CodebookUsage]:
    """Use of each codebook in codes [B, K, F] with entries 0 … bins - 1."""
    return usage_of_counts(count_codes(codes, bins))
