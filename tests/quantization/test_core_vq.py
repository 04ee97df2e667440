import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from audiocraft.quantization.core_vq import (
    EuclideanCodebook,
    ResidualVectorQuantization,
    VectorQuantization,
    kmeans,
    laplace_smoothing,
    nearest,
    sample_vectors,
)


def test_nearest_is_the_nearest() -> None:
    torch.manual_seed(0)
    vectors, codebook = torch.randn(50, 4), torch.randn(9, 4)
    assert torch.equal(nearest(vectors, codebook), torch.cdist(vectors, codebook).argmin(1))


def test_kmeans_finds_clusters() -> None:
    torch.manual_seed(1)
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    samples = (centres[:, None] + 0.1 * torch.randn(3, 40, 2)).reshape(-1, 2)
    best = None
    for _ in range(10):  # a bad draw of starting points can leave a cluster split
        means, counts = kmeans(samples, 3, 20)
        assert counts.sum() == 120
        if counts.tolist() == [40, 40, 40]:
            best = means
    assert best is not None
    assert torch.cdist(best, centres).min(1).values.max() < 0.1


def test_kmeans_with_fewer_samples_than_clusters() -> None:
    samples = torch.randn(3, 2)
    means, counts = kmeans(samples, 8, 5)
    assert means.shape == (8, 2) and counts.sum() == 3 and not means.isnan().any()


def test_sample_vectors_takes_each_once_if_it_can() -> None:
    samples = torch.arange(10.0)[:, None]
    assert sorted(sample_vectors(samples, 10)[:, 0].tolist()) == list(range(10))
    assert sample_vectors(samples, 25).shape == (25, 1)


def test_laplace_smoothing() -> None:
    shares = laplace_smoothing(torch.tensor([0.0, 1.0, 3.0]), 3)
    assert (
        float(shares.sum()) == pytest.approx(1) and shares[0] > 0 and float(shares[2]) == pytest.approx(0.75, abs=1e-4)
    )


def test_codebook_starts_from_the_first_training_batch_only() -> None:
    torch.manual_seed(0)
    codebook = EuclideanCodebook(4, 8, kmeans_init=True, threshold_ema_dead_code=0)
    before = codebook.embed.clone()
    codebook.eval()
    codebook(torch.randn(1, 50, 4))
    assert codebook.inited.item() == 0 and torch.equal(codebook.embed, before)
    codebook.train()
    x = 5 + torch.randn(1, 50, 4)
    quantized, codes, _ = codebook(x)
    assert codebook.inited.item() == 1
    assert F.mse_loss(quantized, x) < 1 and codes.shape == (1, 50)
    assert float(codebook.cluster_size.sum()) == pytest.approx(50, rel=1e-3)
    assert codebook.init_embed_(torch.zeros(3, 4)) is False


def test_codebook_follows_its_vectors() -> None:
    torch.manual_seed(0)
    codebook = EuclideanCodebook(2, 2, decay=0.5, threshold_ema_dead_code=0)
    codebook.embed.copy_(torch.tensor([[0.0, 0.0], [10.0, 10.0]]))
    codebook.embed_avg.copy_(codebook.embed)
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [9.0, 9.0]])
    codebook(x)
    # counts (1 + 2) / 2 and (1 + 1) / 2; sums (0 + 2) / 2 and (10 + 9) / 2
    torch.testing.assert_close(codebook.cluster_size, torch.tensor([1.5, 1.0]))
    torch.testing.assert_close(codebook.embed, torch.tensor([[1 / 1.5, 0.0], [9.5, 9.5]]), atol=1e-3, rtol=0)
    codebook.eval()
    before = codebook.embed.clone()
    codebook(x)
    assert torch.equal(codebook.embed, before)


def test_dead_codes_are_revived_once_and_then_left_in_peace() -> None:
    torch.manual_seed(0)
    codebook = EuclideanCodebook(4, 64, decay=0.99, threshold_ema_dead_code="auto")
    codebook.embed[1:] = 1000 + torch.arange(63.0)[:, None]  # one code is used, the others are far away
    codebook.embed_avg.copy_(codebook.embed)
    codebook.cluster_size[1:] = 0
    assert codebook.dead_threshold(frames=128) == pytest.approx(0.2)
    _, _, metrics = codebook(torch.randn(1, 128, 4))
    assert int(metrics["dead"]) == 63
    assert codebook.embed.abs().max() < 10
    # A revived code has the average use and the sum that belongs to it.
    revived = codebook.cluster_size[1:]
    torch.testing.assert_close(revived, torch.full_like(revived, 2.0))
    torch.testing.assert_close(codebook.embed_avg[1:], codebook.embed[1:] * 2)
    for _ in range(20):
        _, _, metrics = codebook(torch.randn(1, 128, 4))
        assert int(metrics["dead"]) == 0
    assert int(metrics["used"]) > 40


def test_revival_never_takes_a_vector_twice() -> None:
    torch.manual_seed(0)
    codebook = EuclideanCodebook(4, 64, threshold_ema_dead_code="auto")
    codebook.cluster_size.zero_()
    batch = torch.randn(10, 4)
    assert int(codebook.expire_codes_(batch)) == 64
    assert int((codebook.cluster_size > 0).sum()) == 10
    assert len(codebook.embed[codebook.cluster_size > 0].unique(dim=0)) == 10


def test_threshold_as_a_number_and_off() -> None:
    assert EuclideanCodebook(4, 8, threshold_ema_dead_code=2).dead_threshold(10_000) == 2
    codebook = EuclideanCodebook(4, 8, threshold_ema_dead_code=0)
    codebook.cluster_size.zero_()
    before = codebook.embed.clone()
    assert int(codebook.expire_codes_(torch.randn(10, 4))) == 0 and torch.equal(codebook.embed, before)


def test_commitment_pulls_latents_to_their_codes() -> None:
    torch.manual_seed(0)
    layer = VectorQuantization(3, 4, commitment_weight=2.0, threshold_ema_dead_code=0).train()
    x = torch.randn(1, 3, 5, requires_grad=True)
    quantized, codes, loss, _ = layer(x)
    assert codes.shape == (1, 5) and not quantized.requires_grad
    torch.testing.assert_close(loss, 2 * F.mse_loss(x, quantized))
    loss.backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, 2 * 2 * (x.detach() - quantized) / x.numel())


def test_each_codebook_reduces_the_error() -> None:
    torch.manual_seed(0)
    stack = ResidualVectorQuantization(num_quantizers=4, dim=4, codebook_size=16, kmeans_init=True).train()
    x = torch.randn(2, 4, 100)
    for _ in range(5):
        stack(x)
    stack.eval()
    codes = stack.encode(x)
    assert codes.shape == (4, 2, 100)
    errors = [float(F.mse_loss(stack.decode(codes[:n]), x)) for n in (1, 2, 3, 4)]
    assert errors == sorted(errors, reverse=True) and errors[3] < 0.5 * errors[0]


IN_EACH_PROCESS = """
import sys, torch
from audiocraft.quantization.core_vq import EuclideanCodebook, shared_randint
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
torch.manual_seed(rank)
codebook = EuclideanCodebook(4, 16, kmeans_init=True, threshold_ema_dead_code="auto")
dead = [int(codebook(torch.randn(1, 30, 4) + 3 * step)[2]["dead"]) for step in range(60)]
drawn = torch.tensor([shared_randint(1, 1000, torch.device("cpu")) for _ in range(3)])
torch.save({**codebook.state_dict(), "dead": torch.tensor(dead), "drawn": drawn}, f"{folder}/{rank}.pt")
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


def test_processes_end_up_with_one_codebook(tmp_path: Path) -> None:
    """Two processes with different batches keep equal codebooks, through start, averages and revival."""
    command = [sys.executable, "-c", IN_EACH_PROCESS]
    started = [subprocess.Popen([*command, str(rank), str(tmp_path)]) for rank in (0, 1)]
    assert [process.wait(timeout=600) for process in started] == [0, 0]
    states = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for key in states[0]:
        assert torch.equal(states[0][key], states[1][key]), key
    assert states[0]["dead"].sum() > 0
    assert float(states[0]["cluster_size"].sum()) == pytest.approx(2 * 30, rel=0.5)
