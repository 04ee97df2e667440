"""From logits to tokens: filters, and one uniform number per choice inverted through the distribution.

A clip's uniform numbers come from a generator of its own, so what it draws depends neither on the other clips of the
batch nor on the device. It is one of numpy's, whose streams are fixed for good: a player without torch draws the same.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..utils.rng import as_seed
from ..utils.takes import RECENT, Sampling

# Logits divided by much less leave float32; at this temperature the likeliest token alone is drawn as it is.
_LEAST_TEMP = 1e-30


@dataclass(frozen=True)
class SamplingParams:
    """How a token is chosen; in which order the filters work: see `Sampling`.

    Attributes:
        use_sampling: False takes the likeliest token always.
        temp: logits are divided by it; 0 is the same as no sampling.
        top_k: only the k likeliest tokens; 0 is all. Not looked at if `top_p` is above 0.
        top_p: only the likeliest tokens that together reach this probability; 0 is off.
        min_p: only tokens with at least this share of the likeliest one's probability; 0 is off.
        cool: codebook k has the temperature temp * cool^k; 1 is off.
        repetition: nats that the first codebook's tokens lose for having come often lately; 0 is off.

    Raises:
        UserError: a value out of range.
    """

    use_sampling: bool = True
    temp: float = 1.0
    top_k: int = 250
    top_p: float = 0.0
    min_p: float = 0.0
    cool: float = 1.0
    repetition: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.temp < float("inf"):
            raise UserError(f"the temperature is {self.temp}; it must be 0 or above (1 is the model's own)")
        if self.top_k < 0:
            raise UserError(f"top_k is {self.top_k}; it must be 0 (off) or above")
        if not 0 <= self.top_p <= 1:
            raise UserError(f"top_p is {self.top_p}; it must lie in 0 (off) .. 1")
        try:
            Sampling(min_p=self.min_p, cool=self.cool, repetition=self.repetition)
        except ValueError as error:
            raise UserError(str(error)) from error

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken, without drawing."""
        return not self.use_sampling or self.temp == 0


def filter_top_k(probs: Tensor, k: int) -> Tensor:
    """Keep the k likeliest of [..., card], and all that tie with the k-th; renormalised, in token order."""
    if k >= probs.shape[-1]:
        return probs
    threshold = probs.topk(k, dim=-1).values[..., -1:]
    kept = probs.masked_fill(probs < threshold, 0.0)
    return kept / kept.sum(dim=-1, keepdim=True)


def filter_top_p(probs: Tensor, p: float) -> Tensor:
    """Keep the likeliest of [..., card] until they reach p (arXiv 1904.09751); renormalised, in token order.

    A token goes if those before it have more than p together, so the likeliest always stays.
    """
    ordered, order = probs.sort(dim=-1, descending=True)
    before = ordered.cumsum(dim=-1) - ordered
    ordered = ordered.masked_fill(before > p, 0.0)
    ordered = ordered / ordered.sum(dim=-1, keepdim=True)
    return torch.zeros_like(probs).scatter(-1, order, ordered)


def filter_min_p(probs: Tensor, logits: Tensor, p: float) -> Tensor:
    """Keep of [..., card] what has at least p times the likeliest token's probability, by its logits [..., card] (arXiv
    2407.01082); not renormalised."""
    return probs.masked_fill(logits < logits.amax(dim=-1, keepdim=True) + math.log(p), 0.0)


def penalise_recent(logits: Tensor, sequence: Tensor, at: Tensor, repetition: float) -> Tensor:
    """Take `repetition` off the first codebook's logits, in proportion to each token's share of the last steps.

    Args:
        logits: [B, K, card] of step `at`, int64 [1].
        sequence: [B, K, S], which begins with a special token; places before `at` that hold no token are no one's.
    Returns:
        logits, float32. All sizes are fixed, and nothing waits for a GPU.
    """
    places = (at - 1 - torch.arange(RECENT, device=at.device)).clamp_(min=0)
    recent = sequence[:, 0].index_select(1, places)
    tokens = torch.arange(logits.shape[-1], device=recent.device)
    share = (recent[..., None] == tokens).sum(dim=1) / RECENT
    first, others = logits.float().split([1, logits.shape[1] - 1], dim=1)
    return torch.cat([first - repetition * share[:, None], others], dim=1)


def draw(probs: Tensor, uniforms: Tensor) -> Tensor:
    """Invert each distribution [..., card] (not necessarily normalised) at its uniform number [...] in [0, 1).

    Returns:
        tokens, int64 [...]; never one of probability 0.
    """
    cumulated = probs.cumsum(dim=-1)
    total = cumulated[..., -1:]
    tokens = torch.searchsorted(cumulated, uniforms[..., None].to(total) * total, right=True)
    # Rounding may lift u * total up to the total itself, past the last token that has a probability.
    last = (cumulated < total).sum(dim=-1, keepdim=True)
    return torch.minimum(tokens, last)[..., 0]


def choose(logits: Tensor, uniforms: Tensor | None, params: SamplingParams) -> Tensor:
    """Tokens, int64 [...], from logits [..., card] and, unless greedy, uniform numbers [...]; with `cool`, the last of
    [...] counts codebooks. What `repetition` takes off is off already."""
    if params.greedy:
        return logits.argmax(dim=-1)
    assert uniforms is not None
    scaled = _scaled(logits.float(), params)
    probs = torch.softmax(scaled, dim=-1)
    if params.top_p > 0:
        probs = filter_top_p(probs, params.top_p)
    elif params.top_k > 0:
        probs = filter_top_k(probs, params.top_k)
    if params.min_p > 0:
        probs = filter_min_p(probs, scaled, params.min_p)
    return draw(probs, uniforms)


def _scaled(logits: Tensor, params: SamplingParams) -> Tensor:
    if params.cool == 1:
        return logits / max(params.temp, _LEAST_TEMP)
    books = enumerate(logits.unbind(-2))
    return torch.stack([book / max(params.temp * params.cool**k, _LEAST_TEMP) for k, book in books], dim=-2)


def clip_uniforms(seed: int | Sequence[int], clips: int, steps: int, n_q: int) -> Tensor:
    """Uniform numbers, float32 [clips, steps, n_q] on the CPU; clip i draws from a PCG64 of its own, seeded with
    seed + i, or with seed[i] where there are several. Seeds count modulo 2^64.

    They are the upper 24 bits of its raw numbers: multiples of 2^-24 in [0, 1), exact in float32. Fewer steps give the
    beginning of the same numbers.
    """
    seeds = list(map(as_seed, seed)) if isinstance(seed, Sequence) else [as_seed(seed) + i for i in range(clips)]
    assert len(seeds) == clips, f"{len(seeds)} seeds for {clips} clips"
    rows = [np.random.PCG64(each % (1 << 64)).random_raw(steps * n_q) >> np.uint64(40) for each in seeds]
    uniforms = np.stack(rows).astype(np.float32) * np.float32(2**-24)
    return torch.from_numpy(uniforms.reshape(clips, steps, n_q))
