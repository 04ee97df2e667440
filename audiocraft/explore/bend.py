"""Codes bent on purpose; a codec's `bent_decoder` plays them.

Operations map codes int64 [B, K, F] to new codes; what they draw comes from the generator (on the CPU) that they are
given, the same for each clip of the batch. Codebooks are counted from 0 here. `amount` is the share that is touched of
the frames, blocks or entries, at least one unless it is 0; a larger amount with the same generator touches the same
ones and more.

Bent codes may hold what no encoder makes: `HOLE`, a frame in which a codebook is silent, and code + table ×
cardinality, which reads `code` in another codec's codebook. A residual quantiser's latent is the sum of one vector per
codebook, so a hole adds nothing, and even the first codebook can be left out. Holes move with the codes around them.
"""

import math
from collections.abc import Sequence

import torch

from ..models.codec import HOLE

_LONGEST_STUTTER = 4


def drop(codes: torch.Tensor, books: Sequence[int], amount: float, generator: torch.Generator) -> torch.Tensor:
    """Leave codebooks out, in a share of the frames: the same frames in all of them."""
    touched = _touched(codes.shape[-1], amount, generator)
    return _replace(codes, books, codes.new_full((), HOLE), touched)


def swap(codes: torch.Tensor, first: int, second: int, amount: float, generator: torch.Generator) -> torch.Tensor:
    """Let two codebooks read each other's codes, in a share of the frames."""
    touched = _touched(codes.shape[-1], amount, generator)
    return _replace(codes, (first, second), codes[:, [second, first]], touched)


def shuffle(
    codes: torch.Tensor, frames: int, books: Sequence[int], amount: float, generator: torch.Generator
) -> torch.Tensor:
    """Cut time into blocks of `frames` and let a share of them change places in a ring, so that each of them moves. A
    rest at the end that fills no block stays."""
    length = codes.shape[-1]
    order = torch.arange(length)
    full = length // frames * frames
    order[:full] = order[:full].view(-1, frames)[_ring(length // frames, amount, generator)].flatten()
    return _reorder(codes, books, order)


def hold(
    codes: torch.Tensor, frames: int, books: Sequence[int], amount: float, generator: torch.Generator
) -> torch.Tensor:
    """Sample and hold: in a share of blocks of `frames` the first frame sounds throughout."""
    order = torch.arange(codes.shape[-1])
    block = order // frames
    touched = _touched(_blocks(codes, frames), amount, generator)[block]
    return _reorder(codes, books, torch.where(touched, block * frames, order))


def stutter(
    codes: torch.Tensor, frames: int, books: Sequence[int], amount: float, generator: torch.Generator
) -> torch.Tensor:
    """Cut time into phrases of 2 to 4 blocks of `frames`; in a share of the phrases the first block is played over and
    over."""
    blocks = _blocks(codes, frames)
    sizes = torch.randint(2, _LONGEST_STUTTER + 1, (blocks,), generator=generator)
    ends = sizes.cumsum(0)
    phrases = int((ends < blocks).sum()) + 1  # as many as it takes to reach the end
    order = torch.arange(codes.shape[-1])
    phrase = torch.searchsorted(ends, order // frames, right=True)
    start = (ends - sizes)[phrase] * frames
    touched = _touched(phrases, amount, generator)[phrase]
    return _reorder(codes, books, torch.where(touched, start + order % frames, order))


def reverse(
    codes: torch.Tensor, frames: int | None, books: Sequence[int], amount: float, generator: torch.Generator
) -> torch.Tensor:
    """Play a share of blocks of `frames` backwards; None takes the whole as one block."""
    length = codes.shape[-1]
    frames = length if frames is None else frames
    order = torch.arange(length)
    begin = order // frames * frames
    last = (begin + frames).clamp(max=length) - 1
    touched = _touched(_blocks(codes, frames), amount, generator)[order // frames]
    return _reorder(codes, books, torch.where(touched, begin + last - order, order))


def permute_codes(
    codes: torch.Tensor, books: Sequence[int], cardinality: int, amount: float, generator: torch.Generator
) -> torch.Tensor:
    """Let a share of the entries of each codebook change places in a ring: what was one sound is always the same
    other."""
    codes = codes.clone()
    for book in books:
        other = _ring(cardinality, amount, generator)
        entry = codes[:, book] % cardinality
        codes[:, book] = torch.where(codes[:, book] == HOLE, HOLE, codes[:, book] - entry + other[entry])
    return codes


def rate(codes: torch.Tensor, speed: float) -> torch.Tensor:
    """Codes [B, K, ceil(F / speed)]: above 1 frames are left out, below 1 they are repeated; pitch stays."""
    length = math.ceil(codes.shape[-1] / speed)
    order = (torch.arange(length, dtype=torch.float64) * speed + 1e-9).long()  # 100 × 0.29 falls short of 29
    return codes[..., order.clamp(max=codes.shape[-1] - 1)]


def lookup(
    codes: torch.Tensor, table: int, cardinality: int, amount: float, generator: torch.Generator
) -> torch.Tensor:
    """Read a share of the frames in the codebooks of another codec.

    Args:
        codes: [B, K, F].
        table: which of the codecs given to `bent_decoder`, from 1; 0 is the codec's own.
        cardinality: entries per codebook.
        amount: share of frames.
        generator: draws them.
    """
    touched = _touched(codes.shape[-1], amount, generator)
    moved = torch.where(codes == HOLE, codes, codes % cardinality + table * cardinality)
    return torch.where(touched, moved, codes)


def _blocks(codes: torch.Tensor, frames: int) -> int:
    return -(-codes.shape[-1] // frames)


def _share(number: int, amount: float, least: int) -> int:
    """How many of `number` a share is, at least `least` unless it is 0."""
    return min(number, max(least, round(amount * number))) if amount > 0 else 0


def _touched(number: int, amount: float, generator: torch.Generator) -> torch.Tensor:
    """Bool [number], true for a random share."""
    touched = torch.zeros(number, dtype=torch.bool)
    touched[torch.randperm(number, generator=generator)[: _share(number, amount, 1)]] = True
    return touched


def _ring(number: int, amount: float, generator: torch.Generator) -> torch.Tensor:
    """Permutation [number] that moves each of a random share (a random cycle), and leaves the others."""
    chosen = torch.randperm(number, generator=generator)[: _share(number, amount, 2)]
    ring = torch.arange(number)
    ring[chosen] = chosen.roll(1)
    return ring


def _reorder(codes: torch.Tensor, books: Sequence[int], order: torch.Tensor) -> torch.Tensor:
    """Frames of some codebooks in another order [F]."""
    codes = codes.clone()
    codes[:, list(books)] = codes[:, list(books)][..., order]
    return codes


def _replace(codes: torch.Tensor, books: Sequence[int], new: torch.Tensor, touched: torch.Tensor) -> torch.Tensor:
    """`new` in place of some codebooks' codes in the frames touched [F]."""
    codes = codes.clone()
    codes[:, list(books)] = torch.where(touched, new, codes[:, list(books)])
    return codes
