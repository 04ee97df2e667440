"""Vector quantisation with codebooks learned by moving averages.

Sources: van den Oord et al. 2017 (VQ-VAE, commitment and moving averages), Razavi et al. 2019, Dhariwal et al. 2020
(k-means start, revival of dead codes), Zeghidour et al. 2021 (residual quantisation). Vectors are rows: [N, D].

Training waits for the GPU once, at its start (and, with quantiser dropout over several processes, once a step): shapes
do not hang on how many codes are dead, and metrics are tensors.
"""

import typing as tp
from functools import cache

import torch
import torch.distributed
import torch.nn.functional as F
from torch import nn

from ..errors import UserError
from ..utils.left_out import missing

AUTO_DEAD_SHARE = 0.1
"""With `threshold_ema_dead_code: auto` a code is dead below this share of the average use, frames ÷ bins."""


def _world() -> int:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1


def _broadcast(*tensors: torch.Tensor) -> None:
    """Make all processes hold what the first one holds."""
    if _world() > 1:
        for tensor in tensors:
            torch.distributed.broadcast(tensor, src=0)


def _sum_over_processes(*tensors: torch.Tensor) -> None:
    if _world() > 1:
        for tensor in tensors:
            torch.distributed.all_reduce(tensor)


def _of_all_processes(rows: torch.Tensor) -> torch.Tensor:
    """The rows [N, D] of all processes, of which each has as many: [processes * N, D]."""
    if _world() == 1:
        return rows
    gathered = [torch.empty_like(rows) for _ in range(_world())]
    torch.distributed.all_gather(gathered, rows.contiguous())
    return torch.cat(gathered)


def shared_randint(low: int, high: int, device: torch.device) -> int:
    """A random integer in low..high, the same in all processes; `device` is where they exchange it."""
    drawn = torch.randint(low, high + 1, (1,))
    if _world() > 1:
        drawn = drawn.to(device)
        _broadcast(drawn)
    return int(drawn)


def _draw(rows: torch.Tensor, num: int) -> torch.Tensor:
    """`num` of the rows [N, D] in random order, none twice before all were taken."""
    # Not by randperm, which makes so few numbers on the CPU and waits for the GPU to take them.
    order = torch.rand(len(rows), device=rows.device).argsort()
    return rows[order[torch.arange(num, device=rows.device) % len(rows)]]


def nearest(vectors: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    """Index [N] of the row e of codebook [bins, D] nearest to each x of vectors [N, D].

    |x - e|² = |x|² - 2 x·e + |e|², of which the first term is the same for all rows.

    Raises:
        UserError: on a device of Apple's that does not find them.
    """
    if vectors.device.type == "mps":
        check_nearest(vectors.device)
    return _nearest(vectors, codebook)


def _nearest(vectors: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    return torch.addmm(codebook.pow(2).sum(1), vectors, codebook.t(), alpha=-2).argmin(1)


@cache
def check_nearest(device: torch.device) -> None:
    """Raises UserError where a device finds other nearest rows than the CPU: torch's sums and minima on mps have been
    wrong in some releases, and wrong codes look like any others."""
    generator = torch.Generator().manual_seed(0)
    vectors, codebook = torch.randn(257, 64, generator=generator), torch.randn(1024, 64, generator=generator)
    found = _nearest(vectors.to(device), codebook.to(device)).cpu()
    if (found != _nearest(vectors, codebook)).float().mean() > 0.01:
        raise UserError(f"torch {torch.__version__} finds wrong codes on device={device.type}; use device=cpu")


def kmeans(samples: torch.Tensor, num_clusters: int, num_iters: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    """Lloyd's k-means on samples [N, D] → (means [num_clusters, D], counts [num_clusters]).

    It ends after `num_iters` iterations, or when no sample changes its cluster any more. An empty cluster keeps its
    place and a count of 0.
    """
    means = _draw(samples, num_clusters)
    counts = means.new_zeros(num_clusters)
    before = None
    for _ in range(num_iters):
        codes = nearest(samples, means)
        if before is not None and torch.equal(codes, before):
            break
        before = codes
        counts, sums = _counts_and_sums(samples, codes, num_clusters)
        means = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], means)
    return means, counts


def _counts_and_sums(samples: torch.Tensor, codes: torch.Tensor, bins: int) -> tuple[torch.Tensor, torch.Tensor]:
    """How many of samples [N, D] have each code, [bins], and their sums, [bins, D]."""
    counts = samples.new_zeros(bins).index_add_(0, codes, samples.new_ones(len(samples)))
    sums = samples.new_zeros(bins, samples.shape[1]).index_add_(0, codes, samples)
    return counts, sums


class EuclideanCodebook(nn.Module):
    """Codebook [codebook_size, dim] that follows the vectors it is given while training.

    Args:
        kmeans_init: start from k-means over the first training batch, unless `ResidualVectorQuantization.start_` gave
            more before.
        decay: of the moving averages, per training step.
        threshold_ema_dead_code: a code with a moving average of fewer vectors per step is replaced by a vector of the
            batch; 'auto': 0.1 × frames ÷ bins; 0: never.
    """

    inited: torch.Tensor
    cluster_size: torch.Tensor
    embed: torch.Tensor
    embed_avg: torch.Tensor

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        kmeans_init: bool = False,
        kmeans_iters: int = 10,
        decay: float = 0.8,
        epsilon: float = 1e-5,
        threshold_ema_dead_code: float | str = 2,
    ):
        super().__init__()
        self.decay = decay
        self.epsilon = epsilon
        self.codebook_size = codebook_size
        self.kmeans_iters = kmeans_iters
        self.threshold_ema_dead_code = threshold_ema_dead_code
        embed = nn.init.kaiming_uniform_(torch.empty(codebook_size, dim))
        self.register_buffer("inited", torch.tensor([float(not kmeans_init)]))
        # A random start counts one vector per code, so that sums ÷ counts is the code itself.
        self.register_buffer("cluster_size", torch.zeros(codebook_size) if kmeans_init else torch.ones(codebook_size))
        self.register_buffer("embed", embed)
        self.register_buffer("embed_avg", embed.clone())
        # What `inited` says, None when not looked up yet: a buffer on a GPU is not to be read at each step.
        self._started: bool | None = None
        self.register_load_state_dict_post_hook(_forget_start)

    @torch.no_grad()
    def init_embed_(self, data: torch.Tensor, frames: int | None = None) -> bool:
        """Start from k-means over data [N, D] unless started already; True if this call did it.

        Args:
            frames: vectors that a step has in all processes; None: data are those of a step in this process.
        """
        if self._started is None:
            self._started = bool(self.inited)
        if self._started:
            return False
        means, counts = kmeans(data, self.codebook_size, self.kmeans_iters)
        self.embed.copy_(means)
        # Use per step as all processes together will see it.
        self.cluster_size.copy_(counts * (_world() if frames is None else frames / len(data)))
        self.embed_avg.copy_(means * self.cluster_size[:, None])
        self.inited.fill_(1)
        self._started = True
        _broadcast(*self.buffers())
        return True

    def dead_threshold(self, frames: int) -> float:
        """Moving average of vectors per step below which a code is dead, for batches of `frames` vectors."""
        if self.threshold_ema_dead_code == "auto":
            return AUTO_DEAD_SHARE * frames / self.codebook_size
        return float(self.threshold_ema_dead_code)

    @torch.no_grad()
    def expire_codes_(self, batch_samples: torch.Tensor) -> torch.Tensor:
        """Replace dead codes by vectors of batch_samples [N, D], at most N at a time, and give them the average use
        (or twice the threshold, if that is more), so that they have time to prove themselves. Returns how many were
        dead."""
        frames = len(batch_samples) * _world()
        threshold = self.dead_threshold(frames)
        dead = self.cluster_size < threshold
        if threshold == 0:
            return dead.sum()
        # Dead codes in random order, then the living. The first ones have a vector ready, which only the dead take.
        order = (torch.rand_like(self.cluster_size) + ~dead).argsort()[: len(batch_samples)]
        vectors = _draw(batch_samples, len(order))
        revived = dead[order]
        use = max(frames / self.codebook_size, 2 * threshold)
        self.embed[order] = torch.where(revived[:, None], vectors, self.embed[order])
        self.embed_avg[order] = torch.where(revived[:, None], vectors * use, self.embed_avg[order])
        self.cluster_size[order] = self.cluster_size[order].masked_fill(revived, use)
        # Not only where codes died, as that would have to be asked for.
        _broadcast(self.embed, self.embed_avg, self.cluster_size)
        return dead.sum()

    @torch.no_grad()
    def update_(self, x: torch.Tensor, codes: torch.Tensor) -> None:
        """One step of the moving averages for vectors x [N, D] coded as codes [N].

        A code is its average sum ÷ its average count, with `epsilon` added to each count and all of them scaled back to
        what they were together, so that a code that is hardly used stays finite.
        """
        counts, sums = _counts_and_sums(x, codes, self.codebook_size)
        _sum_over_processes(counts, sums)
        self.cluster_size.lerp_(counts, 1 - self.decay)
        self.embed_avg.lerp_(sums, 1 - self.decay)
        total = self.cluster_size.sum()
        size = (self.cluster_size + self.epsilon) * (total / (total + self.codebook_size * self.epsilon))
        self.embed.copy_(self.embed_avg / size[:, None])

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Vectors [..., D] → codes [...]."""
        return nearest(x.reshape(-1, x.shape[-1]), self.embed.to(x.dtype)).view(x.shape[:-1])

    def decode(self, embed_ind: torch.Tensor) -> torch.Tensor:
        """Codes [...] → vectors [..., D]."""
        return F.embedding(embed_ind, self.embed)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """x [..., D] → (quantised [..., D], codes [...], metrics); in training mode the codebook learns from x."""
        vectors = x.detach().reshape(-1, x.shape[-1])
        started_now = self.training and self.init_embed_(vectors)
        codes = nearest(vectors, self.embed.to(vectors.dtype))
        quantized = self.decode(codes).view_as(x)
        metrics: dict[str, torch.Tensor] = {}
        if self.training:
            self.update_(vectors, codes)
            # The batch that k-means has just used would only give copies of codes that exist.
            metrics["dead"] = codes.new_zeros(()) if started_now else self.expire_codes_(vectors)
            metrics["used"] = codes.new_zeros(self.codebook_size).index_fill_(0, codes, 1).sum()
        return quantized, codes.view(x.shape[:-1]), metrics


def _forget_start(codebook: nn.Module, _: tp.Any) -> None:
    """After `load_state_dict`, which may bring codes or take them away."""
    tp.cast(EuclideanCodebook, codebook)._started = None


class VectorQuantization(nn.Module):
    """One codebook on latents [B, D, F]."""

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        decay: float = 0.8,
        epsilon: float = 1e-5,
        kmeans_init: bool = False,
        kmeans_iters: int = 10,
        threshold_ema_dead_code: float | str = 2,
        commitment_weight: float = 1.0,
    ):
        super().__init__()
        self.commitment_weight = commitment_weight
        self._codebook = EuclideanCodebook(
            dim, codebook_size, kmeans_init, kmeans_iters, decay, epsilon, threshold_ema_dead_code
        )

    @property
    def codebook(self) -> torch.Tensor:
        """The codes as vectors [codebook_size, D]."""
        return self._codebook.embed

    @property
    def inited(self) -> torch.Tensor:
        """[1], 1 once the codebook has its starting values."""
        return self._codebook.inited

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """[B, D, F] → codes [B, F]."""
        return self._codebook.encode(x.transpose(1, 2))

    def decode(self, embed_ind: torch.Tensor) -> torch.Tensor:
        """Codes [B, F] → [B, D, F]."""
        return self._codebook.decode(embed_ind).transpose(1, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """x [B, D, F] → (quantised [B, D, F] without gradient, codes [B, F], commitment loss, metrics)."""
        quantized, codes, metrics = self._codebook(x.transpose(1, 2))
        quantized = quantized.transpose(1, 2)
        loss = torch.zeros((), device=x.device)
        if self.training:
            loss = self.commitment_weight * F.mse_loss(x, quantized)
        return quantized, codes, loss, metrics


class ResidualVectorQuantization(nn.Module):
    """Codebooks in a row, each on what the ones before it left over. Arguments of VectorQuantization."""

    def __init__(self, *, num_quantizers: int, **kwargs: tp.Any):
        super().__init__()
        self.layers = nn.ModuleList([VectorQuantization(**kwargs) for _ in range(num_quantizers)])

    def _used(self, n_q: int | None) -> list[VectorQuantization]:
        return tp.cast(list[VectorQuantization], list(self.layers)[: len(self.layers) if n_q is None else n_q])

    def forward(
        self, x: torch.Tensor, n_q: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """x [B, D, F] → (quantised [B, D, F], codes [K, B, F], losses [K], metrics averaged over codebooks: scalars).

        In training the gradient passes straight through to x.
        """
        residual = x
        total = torch.zeros_like(x)
        codes, losses, metrics = [], [], []
        for layer in self._used(n_q):
            quantized, layer_codes, loss, layer_metrics = layer(residual)
            residual = residual - quantized
            total = total + quantized
            codes.append(layer_codes)
            losses.append(loss)
            metrics.append(layer_metrics)
        if self.training:
            total = x + (total - x).detach()
        means = {key: torch.stack([m[key] for m in metrics]).float().mean() for key in metrics[0]}
        return total, torch.stack(codes), torch.stack(losses), means

    @property
    def started(self) -> bool:
        """Whether all codebooks have their starting values."""
        return all(bool(layer.inited) for layer in self._used(None))

    @torch.no_grad()
    def start_(self, vectors: torch.Tensor, frames: int) -> None:
        """Start the codebooks that have not: k-means over what the ones before leave of the vectors of all processes.

        Args:
            vectors: latents [N, D] of this process, of several batches; the same N in each process.
            frames: vectors that a training step has in all processes.
        """
        residual = _of_all_processes(vectors)
        for layer in self._used(None):
            layer._codebook.init_embed_(residual, frames)
            residual = residual - layer._codebook.decode(layer._codebook.encode(residual))

    def encode(self, x: torch.Tensor, n_q: int | None = None) -> torch.Tensor:
        """x [B, D, F] → codes [K, B, F]."""
        residual = x
        codes = []
        for layer in self._used(n_q):
            codes.append(layer.encode(residual))
            residual = residual - layer.decode(codes[-1])
        return torch.stack(codes)

    def decode(self, q_indices: torch.Tensor) -> torch.Tensor:
        """Codes [K, B, F] → [B, D, F]."""
        total = torch.zeros((), device=q_indices.device)
        for layer, codes in zip(self._used(len(q_indices)), q_indices):
            total = total + layer.decode(codes)
        return total


__getattr__ = missing(__name__)
