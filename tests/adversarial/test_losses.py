"""Adversarial losses: who gets gradients, and going on from a saved state; the peer's numbers are in parity/."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from two import run_two

from audiocraft import adversarial
from audiocraft.adversarial import (
    AdversarialLoss,
    FeatureMatchingLoss,
    MultiScaleSTFTDiscriminator,
    get_adv_criterion,
    get_fake_criterion,
    get_real_criterion,
)
from audiocraft.errors import UserError

SMALL = {"n_ffts": [64, 32], "hop_lengths": [16, 8], "win_lengths": [64, 32]}


@pytest.fixture(scope="module")
def signals(golden):
    return load_file(golden / "losses" / "io.safetensors")


@pytest.fixture(scope="module")
def facts(golden):
    return json.loads((golden / "losses" / "losses.json").read_text())


def game(discriminator: torch.nn.Module, kind: str = "hinge", fused: bool | None = None) -> AdversarialLoss:
    return AdversarialLoss(
        discriminator,
        torch.optim.Adam(discriminator.parameters(), lr=3e-4, betas=(0.5, 0.9), fused=fused),
        adversarial.get_adv_criterion(kind),
        adversarial.get_real_criterion(kind),
        adversarial.get_fake_criterion(kind),
        FeatureMatchingLoss(),
    )


def small_game(seed: int = 0) -> AdversarialLoss:
    torch.manual_seed(seed)
    return game(MultiScaleSTFTDiscriminator(2, **SMALL), fused=True)


@pytest.mark.parametrize(
    "get", [adversarial.get_adv_criterion, adversarial.get_fake_criterion, adversarial.get_real_criterion]
)
def test_an_unknown_criterion_names_its_key(get):
    with pytest.raises(UserError, match=r"adversarial\.adv_loss=wasserstein.*hinge2"):
        get("wasserstein")


def test_gradients_reach_only_who_is_to_learn():
    loss = small_game()
    fake = torch.randn(2, 1, 100, requires_grad=True)
    real = torch.randn(2, 1, 100)
    adv, feat = loss(fake, real)
    (adv + feat).backward()
    assert fake.grad is not None and fake.grad.abs().sum() > 0
    assert all(parameter.grad is None and parameter.requires_grad for parameter in loss.parameters())
    fake.grad = None
    before = {name: parameter.detach().clone() for name, parameter in loss.named_parameters()}
    with torch.no_grad():  # the codec's side may be in validation
        loss.train_adv(fake, real)
    assert fake.grad is None
    for name, parameter in loss.named_parameters():
        if "weight" in name:  # while no logit is beyond its hinge, real and fake pull equally hard at the last bias
            assert not torch.equal(before[name], parameter), name


def test_features_are_left_out_where_nothing_compares_them():
    loss = small_game()
    loss.loss_feat = None
    calls = []
    loss.adversary.register_forward_hook(lambda *_: calls.append(1))
    _, feat = loss(torch.randn(1, 1, 100), torch.randn(1, 1, 100))
    assert feat.item() == 0 and len(calls) == 1


def test_the_sum_over_scales_where_no_mean_is_asked():
    loss = small_game()
    fake, real = torch.randn(2, 1, 1, 100)
    mean = loss(fake, real)
    loss.normalize = False
    for whole, part in zip(loss(fake, real), mean):
        torch.testing.assert_close(whole, 2 * part)


def test_training_tells_real_from_fake():
    loss = small_game()
    loss.optimizer.param_groups[0]["lr"] = 1e-2
    generator = torch.Generator().manual_seed(0)

    def pair() -> tuple[torch.Tensor, torch.Tensor]:
        noise = torch.randn(8, 1, 200, generator=generator)
        return 0.3 * noise, torch.sin(torch.arange(200) * 0.3).expand_as(noise) + 0.1 * noise.flip(-1)

    first = loss.train_adv(*pair())
    for _ in range(30):
        last = loss.train_adv(*pair())
    assert first > 1.5 and last < 0.5


def test_a_saved_game_goes_on_bit_for_bit(tmp_path: Path):
    batches = torch.randn(6, 2, 3, 1, 100, generator=torch.Generator().manual_seed(0))
    whole = small_game()
    for fake, real in batches[:3]:
        whole.train_adv(fake, real)
    torch.save(torch.nn.ModuleDict({"msstftd": whole}).state_dict(), tmp_path / "state.th")
    second = small_game(seed=1)
    state = torch.load(tmp_path / "state.th", weights_only=True)
    torch.nn.ModuleDict({"msstftd": second}).load_state_dict(state)
    for fake, real in batches[3:]:
        assert torch.equal(whole.train_adv(fake, real), second.train_adv(fake, real))
    for ours, theirs in zip(second.parameters(), whole.parameters()):
        assert torch.equal(ours, theirs)


def test_a_state_in_memory_is_copied():
    first, second = small_game(), small_game(seed=1)
    fake, real = torch.randn(2, 3, 1, 100)
    first.train_adv(fake, real)
    second.load_state_dict(first.state_dict())
    averages = [state["exp_avg"].clone() for state in first.optimizer.state.values()]
    second.train_adv(fake, real)
    assert all(torch.equal(old, new["exp_avg"]) for old, new in zip(averages, first.optimizer.state.values()))


IN_EACH_PROCESS = """
from audiocraft import adversarial
from audiocraft.losses import Balancer
torch.manual_seed(rank)
model = adversarial.MultiScaleSTFTDiscriminator(2, n_ffts=[64], hop_lengths=[16], win_lengths=[64])
kinds = [get("hinge") for get in
         (adversarial.get_adv_criterion, adversarial.get_real_criterion, adversarial.get_fake_criterion)]
loss = adversarial.AdversarialLoss(model, torch.optim.SGD(model.parameters(), lr=0.1), *kinds)
begun = {name: value.clone() for name, value in model.state_dict().items()}
fake, real = torch.randn(2, 3, 1, 100)
loss.train_adv(fake, real)
balancer = Balancer({"a": 1.0, "b": 2.0})
y = torch.randn(3, 1, 10, requires_grad=True)
balancer.backward({"a": (rank + 1) * y.sum(), "b": y.square().sum()}, y)
torch.save({"begun": begun, "trained": model.state_dict(), "fake": fake, "real": real,
            "sums": balancer.state_dict()["sums"]}, f"{folder}/{rank}.pt")
"""


def test_processes_train_one_discriminator_and_scale_alike(tmp_path: Path):
    run_two(IN_EACH_PROCESS, folder=tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert not torch.equal(first["fake"], second["fake"])
    for stage in ("begun", "trained"):
        for name, value in first[stage].items():
            assert torch.equal(value, second[stage][name]), name
    # One process with both batches does the same.
    model = MultiScaleSTFTDiscriminator(2, n_ffts=[64], hop_lengths=[16], win_lengths=[64])
    model.load_state_dict(first["begun"])
    alone = game(model)
    alone.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    alone.train_adv(*(torch.cat([first[name], second[name]]) for name in ("fake", "real")))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(first["trained"][name], value)
    assert torch.equal(first["sums"]["b"], second["sums"]["b"])
    # Per item |d sum / dy| is sqrt(10) in one process and twice that in the other.
    torch.testing.assert_close(first["sums"]["a"], torch.tensor(1.5 * 10**0.5))


def test_features_that_do_not_match_are_refused():
    loss, a, b = FeatureMatchingLoss(), torch.ones(1, 2, 9), torch.ones(1, 2, 8)
    assert loss([a, b], [a, b]).item() == 0
    for fake, real in (([], []), ([a], [a, a]), ([a, a], [a]), ([a], [b])):
        for error in (UserError, AssertionError):
            with pytest.raises(error, match="do not match"):
                loss(fake, real)


@pytest.mark.parametrize("kind", ["mse", "hinge", "hinge2"])
def test_no_logits_cost_nothing(kind):
    nothing = torch.zeros(2, 1, 0)
    for criterion in (get_adv_criterion, get_fake_criterion, get_real_criterion):
        assert criterion(kind)(nothing).item() == 0
        for error in (AssertionError, ValueError):
            with pytest.raises(error, match="is not known"):
                criterion("least squares")
