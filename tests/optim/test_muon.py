"""Muon: what an update is, what is left to AdamW, and that a run goes on as if it had not stopped."""

import copy

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from audiocraft import optim
from audiocraft.errors import UserError
from audiocraft.optim.muon import orthogonalised
from audiocraft.solvers.optimizers import get_optimizer

CFG = OmegaConf.create(
    {
        "optimizer": "muon",
        "lr": 1e-2,
        "muon": {"lr": 0.1, "momentum": 0.9},
        "adam": {"betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.0},
    }
)


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(5, 8)
        self.transformer = nn.Sequential(nn.Linear(8, 24), nn.LayerNorm(24), nn.Linear(24, 8, bias=False))
        self.head = nn.Linear(8, 5)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        return self.head(self.transformer(self.emb(codes)))


def toy() -> Toy:
    torch.manual_seed(0)
    return Toy()


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, seed: int = 1) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(steps):
        codes = torch.randint(0, 5, (16,), generator=generator)
        loss = nn.functional.cross_entropy(model(codes), (codes + 1) % 5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("shape", [(4, 4), (16, 64), (256, 1024)])
def test_singular_values_come_to_about_one(shape: tuple[int, int]) -> None:
    matrices = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    out = orthogonalised(matrices)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    # The directions stay; only the sizes change. What was nearly zero takes longer.
    sizes = torch.diagonal(left.mT @ out @ right.mT, dim1=1, dim2=2)
    assert sizes.max() < 1.3 and sizes.median() > 0.65 and sizes.min() > 0.2
    assert torch.allclose(left * sizes[:, None] @ right, out, atol=1e-4)


def test_first_update_of_a_matrix_has_the_size_of_one_of_adam() -> None:
    model = toy()
    before = copy.deepcopy(model.state_dict())
    learn(model, get_optimizer(model, CFG), 1)
    for name in ("transformer.0.weight", "transformer.2.weight"):
        moved = model.state_dict()[name] - before[name]
        assert float(torch.linalg.matrix_norm(moved, 2)) == pytest.approx(0.2 * 0.1 * 24**0.5, rel=0.3)
    seen = model.head.weight.detach() - before["head.weight"]
    assert float(seen.abs().max()) == pytest.approx(1e-2, rel=1e-3)  # AdamW's first step is the rate


def test_a_tall_matrix_is_as_its_transpose() -> None:
    torch.manual_seed(0)
    wide, gradient = nn.Parameter(torch.randn(4, 9)), torch.randn(4, 9)
    tall = nn.Parameter(wide.detach().T.clone())
    wide.grad, tall.grad = gradient, gradient.T.clone()
    optim.Muon([{"params": [wide, tall], "muon": True}], lr=0.1, weight_decay=0.1).step()
    assert torch.allclose(wide.T, tall, atol=1e-6)


def test_all_but_the_matrices_of_layers_go_by_adamw() -> None:
    model = toy()
    optimizer = get_optimizer(model, CFG)
    (muon,) = [group for group in optimizer.param_groups if group["muon"]]
    assert {id(p) for p in muon["params"]} == {id(model.transformer[i].weight) for i in (0, 2)}
    assert muon["lr"] == 0.1 and muon["momentum"] == 0.9 and optimizer.param_groups[0]["lr"] == 1e-2
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
    assert learn(model, optimizer, 30)[-1] < 0.1


def test_resumes_where_it_was() -> None:
    model = toy()
    optimizer = get_optimizer(model, CFG)
    learn(model, optimizer, 3)
    again = toy()
    again.load_state_dict(model.state_dict())
    resumed = get_optimizer(again, CFG)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert learn(model, optimizer, 3, seed=2) == learn(again, resumed, 3, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values()))


def test_an_update_that_a_scaler_finds_infinite_is_left_out() -> None:
    model = toy()
    optimizer, scaler = get_optimizer(model, CFG), torch.amp.GradScaler("cpu")
    before = copy.deepcopy(model.state_dict())
    scaler.scale(model(torch.arange(5)).sum()).backward()
    assert model.head.weight.grad is not None
    model.head.weight.grad[0, 0] = torch.inf
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_it_is_not_for() -> None:
    with pytest.raises(ValueError, match="for matrices"):
        optim.Muon([{"params": [nn.Parameter(torch.zeros(3))], "muon": True}])
    with pytest.raises(UserError, match="for language models; use optim"):
        get_optimizer(nn.Linear(2, 2), CFG)
    with pytest.raises(UserError, match="for language models"):
        get_optimizer([nn.Parameter(torch.zeros(2, 2))], CFG)
