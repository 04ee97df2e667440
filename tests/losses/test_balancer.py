"""The gradient balancer: its promise, and going on from a saved state; the peer's numbers are in parity/."""

import pytest
import torch

from audiocraft.errors import UserError
from audiocraft.losses import Balancer


def batch(seed: int) -> torch.Tensor:
    return torch.randn(4, 1, 50, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def losses_of(y: torch.Tensor, factor: float = 1.0) -> dict[str, torch.Tensor]:
    return {"abs": factor * y.abs().mean(), "square": y.square().mean(), "cube": y.pow(3).mean()}


WEIGHTS = {"abs": 1.0, "square": 3.0, "cube": 0.5}


def test_the_scale_of_a_loss_does_not_matter():
    plain, loud = batch(0), batch(0)
    Balancer(WEIGHTS).backward(losses_of(plain), plain)
    Balancer(WEIGHTS).backward(losses_of(loud, 1000.0), loud)
    torch.testing.assert_close(loud.grad, plain.grad)


def test_weights_are_shares_of_the_total_norm():
    y = batch(0)
    Balancer({"a": 1.0, "b": 3.0}, total_norm=8.0, per_batch_item=False).backward({"a": y[0].sum(), "b": y[1].sum()}, y)
    assert y.grad[0].norm().item() == pytest.approx(2.0, rel=1e-5)
    assert y.grad[1].norm().item() == pytest.approx(6.0, rel=1e-5)


def test_a_loss_that_pauses_leaves_its_share_to_the_others_and_keeps_its_average():
    balancer = Balancer(WEIGHTS, total_norm=2.0, per_batch_item=False)
    y = batch(0)
    balancer.backward(losses_of(y), y)
    kept = balancer.state_dict()["sums"]["abs"]
    y = batch(0)
    balancer.backward({"square": losses_of(y)["square"]}, y)
    assert y.grad.norm().item() == pytest.approx(2.0, rel=1e-5)
    assert torch.equal(balancer.state_dict()["sums"]["abs"], kept)


def test_a_silent_loss_is_no_trouble():
    y = batch(0)
    balancer = Balancer({"abs": 1.0, "none": 1.0}, monitor=True)
    balancer.backward({"abs": y.abs().mean(), "none": 0 * y.sum()}, y)
    assert torch.isfinite(y.grad).all() and y.grad.abs().sum() > 0
    assert balancer.metrics["ratio_none"].item() == 0


def test_the_gradient_walks_on_through_the_model_and_joins_a_penalty():
    weight = torch.tensor(2.0, requires_grad=True)
    source = batch(0).detach()
    output = weight * source
    balancer = Balancer(WEIGHTS)
    gradient, effective = balancer.gradient(losses_of(output), output)
    assert weight.grad is None and torch.isfinite(effective)
    torch.autograd.backward([output, 5 * weight], [gradient, None])
    assert weight.grad.item() == pytest.approx((gradient * source).sum().item() + 5, rel=1e-5)


def test_saved_averages_go_on_bit_for_bit():
    whole, second = Balancer(WEIGHTS, ema_decay=0.9), Balancer(WEIGHTS, ema_decay=0.9)
    for seed in range(3):
        y = batch(seed)
        whole.backward(losses_of(y), y)
    second.load_state_dict(whole.state_dict())
    for seed in range(3, 6):
        ours, theirs = batch(seed), batch(seed)
        assert torch.equal(second.backward(losses_of(ours), ours), whole.backward(losses_of(theirs), theirs))
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize(
    ("weights", "options", "key"),
    [
        ({"l1": -1.0}, {}, r"losses\.l1=-1"),
        ({"l1": 0.0}, {}, "losses"),
        ({"l1": 1.0}, {"ema_decay": 0.0}, r"balancer\.ema_decay=0"),
        ({"l1": 1.0}, {"ema_decay": 1.5}, r"balancer\.ema_decay=1\.5"),
        ({"l1": 1.0}, {"total_norm": 0.0}, r"balancer\.total_norm=0"),
    ],
)
def test_settings_out_of_range_name_their_key(weights, options, key):
    with pytest.raises(UserError, match=key):
        Balancer(weights, **options)
