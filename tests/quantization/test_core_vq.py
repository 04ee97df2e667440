from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from two import run_two

from audiocraft.errors import UserError
from audiocraft.quantization import core_vq
from audiocraft.quantization.core_vq import (
    EuclideanCodebook,
    ResidualVectorQuantization,
    VectorQuantization,
    kmeans,
    nearest,
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


def test_codebooks_start_from_several_batches() -> None:
    """Four codebooks of 64 at once, where a batch of 30 latents would give the first one 30 codes of its own."""
    torch.manual_seed(0)
    made = {"dim": 4, "codebook_size": 64, "kmeans_init": True}
    stack = ResidualVectorQuantization(num_quantizers=4, threshold_ema_dead_code=0, **made)
    latents = torch.randn(600, 4)
    assert not stack.started
    stack.start_(latents, 30)
    assert stack.started
    stack.eval()
    batch = latents.t()[None]
    errors = [float(F.mse_loss(stack.decode(stack.encode(batch, n)), batch)) for n in (1, 2, 3, 4)]
    assert errors == sorted(errors, reverse=True) and errors[0] < 0.2 and errors[3] < 0.01
    for layer in stack.layers:
        assert len(layer.codebook.unique(dim=0)) == 64
        # As used as it will be in a step of 30 latents.
        assert float(layer._codebook.cluster_size.sum()) == pytest.approx(30)
    before = [layer.codebook.clone() for layer in stack.layers]
    stack.start_(torch.zeros(600, 4), 30)
    assert all(torch.equal(old, layer.codebook) for old, layer in zip(before, stack.layers))


def test_codebook_starts_again_when_its_state_says_so() -> None:
    """Weights may be loaded at any time: of a trained codec, or of one that has not started."""
    torch.manual_seed(0)
    codebook = EuclideanCodebook(4, 8, kmeans_init=True, threshold_ema_dead_code=0)
    fresh = {name: value.clone() for name, value in codebook.state_dict().items()}
    codebook(torch.randn(1, 50, 4))
    trained = {name: value.clone() for name, value in codebook.state_dict().items()}
    codebook.load_state_dict(fresh)
    assert codebook.init_embed_(torch.randn(50, 4)) is True
    parent = torch.nn.Sequential(EuclideanCodebook(4, 8, kmeans_init=True))
    parent.load_state_dict({f"0.{name}": value for name, value in trained.items()})
    parent[0].init_embed_(torch.zeros(50, 4))
    assert torch.equal(parent[0].embed, trained["embed"])


class WaitsForGpu(TorchDispatchMode):
    """Counts operations that would make the CPU wait for a GPU: tensors read as numbers, sizes that hang on values."""

    NAMES = ("_local_scalar_dense", "nonzero", "bincount", "masked_select", "randperm", "unique", "is_nonzero", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(name in str(func) for name in self.NAMES):
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def test_training_does_not_wait_for_the_gpu() -> None:
    torch.manual_seed(0)
    stack = ResidualVectorQuantization(
        num_quantizers=3, dim=4, codebook_size=64, kmeans_init=True, threshold_ema_dead_code="auto"
    ).train()
    stack(torch.randn(2, 4, 30))
    x = torch.randn(2, 4, 30, requires_grad=True)
    with WaitsForGpu() as waits:
        quantized, _, losses, metrics = stack(x + 10)
        (quantized.sum() + losses.sum()).backward()
    assert waits.seen == []
    assert metrics["dead"] > 0 and metrics["used"] > 0
    with WaitsForGpu() as waits:
        metrics["dead"].item()
    assert waits.seen == ["aten._local_scalar_dense.default"]


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
from audiocraft.quantization.core_vq import EuclideanCodebook, ResidualVectorQuantization, shared_randint
torch.manual_seed(rank)
kinds = {"kmeans_init": True, "threshold_ema_dead_code": "auto"}
stack = ResidualVectorQuantization(num_quantizers=2, dim=4, codebook_size=16, **kinds)
stack.start_(torch.randn(100, 4), 60)
codebook = EuclideanCodebook(4, 16, **kinds)
dead = [int(codebook(torch.randn(1, 30, 4) + 3 * step)[2]["dead"]) for step in range(60)]
drawn = torch.tensor([shared_randint(1, 1000, torch.device("cpu")) for _ in range(3)])
learned = {**codebook.state_dict(), **stack.state_dict(), "dead": torch.tensor(dead), "drawn": drawn}
torch.save(learned, f"{folder}/{rank}.pt")
"""


def test_processes_end_up_with_one_codebook(tmp_path: Path) -> None:
    """Two processes with different batches keep equal codebooks, through start, averages and revival."""
    run_two(IN_EACH_PROCESS, folder=tmp_path)
    states = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for key in states[0]:
        assert torch.equal(states[0][key], states[1][key]), key
    assert states[0]["dead"].sum() > 0
    assert float(states[0]["cluster_size"].sum()) == pytest.approx(2 * 30, rel=0.5)


def test_a_device_that_finds_wrong_codes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    core_vq.check_nearest.cache_clear()
    core_vq.check_nearest(torch.device("cpu"))
    core_vq.check_nearest.cache_clear()
    right, calls = core_vq._nearest, []

    def wrong(vectors: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return right(vectors, codebook) if len(calls) > 1 else right(-vectors, codebook)

    monkeypatch.setattr(core_vq, "_nearest", wrong)
    with pytest.raises(UserError, match="finds wrong codes on device=cpu; use device=cpu"):
        core_vq.check_nearest(torch.device("cpu"))


def test_codes_on_mps_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[torch.device] = []
    monkeypatch.setattr(core_vq, "check_nearest", checked.append)
    with FakeTensorMode(), torch.no_grad():
        core_vq.nearest(torch.zeros(3, 4, device="mps"), torch.zeros(5, 4, device="mps"))
        core_vq.nearest(torch.zeros(3, 4), torch.zeros(5, 4))
    assert [device.type for device in checked] == ["mps"]
