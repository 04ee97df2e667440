"""Codes of the spectral codec: residual vectors of an envelope's principal components, and a partial."""

import typing as tp

import torch
from torch.nn import functional as F

from ..errors import UserError
from ..modules import sines
from ..quantization import ResidualVectorQuantizer
from ..quantization.base import BaseQuantizer, QuantizedResult, sum_of_vectors

_BEAM = 4  # sums of vectors that are followed
_ROWS = 1024  # frames that are coded together
# What is this far below the loudest band of its frame weighs LEAST_WEIGHT in the choice of codes.
DEPTH, LEAST_WEIGHT = 2.5, 0.25  # log10 of magnitudes
QUIET = -1.0  # frames whose loudest band is below this weigh as if it were there


class SpectralQuantizer(BaseQuantizer):
    """Codes [B, K, F] of envelopes and partials; a latent [B, D, F] is the envelope's components and, behind them, the
    partial's vector.

    Args:
        rvq: codebooks of the envelope, K - 1 of them; its dimension is the number of principal components.
    """

    mean: torch.Tensor
    basis: torch.Tensor

    def __init__(self, rvq: ResidualVectorQuantizer) -> None:
        super().__init__()
        if rvq.bins < sines.PARTIAL_CODES:
            raise UserError(f"rvq.bins={rvq.bins} are too few for partials; take {sines.PARTIAL_CODES} or more")
        self.rvq, self.bins = rvq, rvq.bins
        self.max_n_q = self.n_q = rvq.total_codebooks + 1
        width = sines.COLUMNS * sines.BANDS
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("basis", torch.eye(width, rvq.dimension))
        self.register_buffer("partials", partial_vectors(rvq.bins), persistent=False)

    @property
    def codebooks(self) -> torch.Tensor:
        """Vectors [K, bins, D] of the codebooks in use; a latent is their sum."""
        partials = tp.cast(torch.Tensor, self.partials)
        vectors = list(F.pad(self.books, (0, partials.shape[1])))
        vectors.insert(sines.TONES, F.pad(partials, (self.rvq.dimension, 0)))
        return torch.stack(vectors[: self.n_q])

    @property
    def books(self) -> torch.Tensor:
        """Vectors [K - 1, bins, components] of the envelope's codebooks."""
        return self.rvq.codebooks

    def envelope_vectors(self) -> torch.Tensor:
        """[K - 1, bins, COLUMNS * BANDS] of the envelope's codebooks, to be added to `mean`."""
        return self.books @ self.basis.T

    @torch.no_grad()
    def start_(self, envelopes: torch.Tensor, frames: int) -> None:
        """Start from envelopes [N, COLUMNS * BANDS]: principal components, then k-means, codebook after codebook.

        Args:
            frames: envelopes that a training step has.
        """
        self.mean.copy_(envelopes.mean(0))
        centred = envelopes - self.mean
        _, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
        self.basis.copy_(vectors.flip(1)[:, : self.rvq.dimension])
        self.rvq.vq.start_(centred @ self.basis, frames)

    def forward(self, x: torch.Tensor, frame_rate: int) -> QuantizedResult:
        """Envelopes x [B, COLUMNS * BANDS, F] → QuantizedResult: x the coded envelopes, codes of the envelope alone
        [B, K - 1, F]. In training mode the codebooks follow what they are given."""
        components = (x.transpose(1, 2) - self.mean) @ self.basis
        result = self.rvq(components.transpose(1, 2), frame_rate)
        coded = (result.x.transpose(1, 2) @ self.basis.T + self.mean).transpose(1, 2)
        return QuantizedResult(coded, result.codes, result.bandwidth, result.penalty, result.metrics)

    @torch.no_grad()
    def encode_envelope(self, log: torch.Tensor, partials: torch.Tensor) -> torch.Tensor:
        """Envelopes [B, F, COLUMNS * BANDS] and codes of partials [B, F] → codes [B, K, F].

        The nearest sum of vectors that a beam finds, where bands count by how loud they are within the frame.
        """
        flat = log.flatten(0, 1)
        loudest = flat.amax(1, keepdim=True).clamp(min=QUIET)
        weight = ((flat - loudest + DEPTH) / DEPTH).clamp(0, 1) * (1 - LEAST_WEIGHT) + LEAST_WEIGHT
        books = self.envelope_vectors()[: self.n_q - (self.n_q > sines.TONES)]
        pieces = zip((flat - self.mean).split(_ROWS), weight.split(_ROWS))
        codes = torch.cat([nearest_sums(x, w, books, _BEAM) for x, w in pieces]).unflatten(0, log.shape[:2])
        rows = list(codes.unbind(-1))
        if self.n_q > sines.TONES:
            rows.insert(sines.TONES, partials)
        return torch.stack(rows, dim=1)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes [B, K, F] of the first K codebooks → latents [B, D, F]."""
        return sum_of_vectors(self.codebooks, codes)


def nearest_sums(x: torch.Tensor, weight: torch.Tensor, books: torch.Tensor, beam: int) -> torch.Tensor:
    """Codes [N, S] of one vector from each of books [S, card, D] whose sum is nearest to x [N, D], squares weighted by
    `weight` [N, D]; `beam` sums are followed."""
    rest, codes = x[:, None], x.new_zeros(len(x), 1, 0, dtype=torch.long)
    for book in books:
        own = weight @ book.square().T  # [N, card]
        there = (weight[:, None] * rest.square()).sum(-1, keepdim=True)
        distance = there - 2 * (weight[:, None] * rest) @ book.T + own[:, None]
        best = distance.flatten(1).topk(beam, dim=1, largest=False).indices
        way, code = best // len(book), best % len(book)
        codes = torch.cat([codes.gather(1, way[..., None].expand(-1, -1, codes.shape[2])), code[..., None]], dim=2)
        rest = rest.gather(1, way[..., None].expand(-1, -1, rest.shape[2])) - book[code]
    return codes[:, 0]


def partial_vectors(bins: int) -> torch.Tensor:
    """Vectors [bins, D] in which neighbours in pitch, octaves and levels are near; zeros for no partial."""
    import numpy as np

    hz, level = (torch.from_numpy(part).float() for part in sines.partial_of(np.arange(bins)))
    octaves = torch.log2(hz.clamp(min=sines.LOWEST_HZ) / sines.LOWEST_HZ)
    turns = 2 * torch.pi * octaves[:, None] * torch.tensor([0.125, 0.25, 0.5, 1.0, 2.0, 4.0])
    features = [torch.cos(turns), torch.sin(turns), (level[:, None] - sines.LOWEST_DB) / 30]
    used = (torch.arange(bins) > 0) & (torch.arange(bins) < sines.PARTIAL_CODES)
    return torch.cat(features, dim=1) * used[:, None]
