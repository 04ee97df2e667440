"""What the adversarial part of a configuration builds, and what it refuses."""

from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from audiocraft.adversarial import AdversarialLoss, MultiScaleSTFTDiscriminator
from audiocraft.errors import UserError
from audiocraft.solvers.optimizers import get_adversarial_losses, get_adversary, get_balancer


def configuration(**changes: Any) -> DictConfig:
    cfg = OmegaConf.create(
        {
            "device": "cpu",
            "channels": 1,
            "losses": {"adv": 4.0, "feat": 4.0, "l1": 0.1},
            "optim": {
                "optimizer": "adam",
                "lr": 3e-4,
                "adam": {"betas": [0.5, 0.9], "eps": 1e-8, "weight_decay": 0.0},
            },
            "adversarial": {"every": 1, "adversaries": ["msstftd"], "adv_loss": "hinge", "feat_loss": "l1"},
            "msstftd": {
                "in_channels": 1,
                "out_channels": 1,
                "filters": 2,
                "norm": "weight_norm",
                "n_ffts": [64, 32],
                "hop_lengths": [16, 8],
                "win_lengths": [64, 32],
                "activation": "LeakyReLU",
                "activation_params": {"negative_slope": 0.3},
            },
            "balancer": {"balance_grads": True, "ema_decay": 0.99, "per_batch_item": False, "total_norm": 2.0},
        }
    )
    for key, value in changes.items():
        OmegaConf.update(cfg, key.replace("__", "."), value, force_add=True)
    return cfg


def test_the_adversary_follows_its_node() -> None:
    adversary = get_adversary("msstftd", configuration(msstftd__kernel_size=[3, 5]))
    assert isinstance(adversary, MultiScaleSTFTDiscriminator) and adversary.num_discriminators == 2
    first = adversary.discriminators[0]
    assert first.convs[1].conv.weight_v.shape == (2, 2, 3, 5)
    assert first.activation.negative_slope == 0.3


def test_losses_have_an_optimizer_of_their_own() -> None:
    losses = get_adversarial_losses(configuration())
    assert list(losses) == ["msstftd"]
    loss = losses["msstftd"]
    assert isinstance(loss, AdversarialLoss)
    group = loss.optimizer.param_groups[0]
    assert group["lr"] == 3e-4 and tuple(group["betas"]) == (0.5, 0.9)
    assert {id(p) for p in group["params"]} == {id(p) for p in loss.adversary.parameters()}
    fake, real = torch.randn(2, 2, 1, 100)
    adv, feat = loss(fake, real)
    assert feat > 0
    assert loss.train_adv(fake, real) > 0
    assert loss(fake, real)[0] != adv


def test_features_are_compared_only_where_they_weigh() -> None:
    loss = get_adversarial_losses(configuration(losses__feat=0.0))["msstftd"]
    assert loss(*torch.randn(2, 2, 1, 100))[1].item() == 0


def test_one_name_needs_no_list() -> None:
    assert list(get_adversarial_losses(configuration(adversarial__adversaries="msstftd"))) == ["msstftd"]


def test_the_balancer_follows_its_node() -> None:
    cfg = configuration()
    balancer = get_balancer({"adv": 4.0, "l1": 0.1}, cfg.balancer)
    assert (balancer.total_norm, balancer.ema_decay, balancer.per_batch_item) == (2.0, 0.99, False)
    assert balancer.weights == {"adv": 4.0, "l1": 0.1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adversarial__adversaries": ["mpd"]}, "adversarial.adversaries=mpd is not known; use msstftd"),
        ({"adversarial__adversaries": []}, "adversarial.adversaries is empty"),
        ({"adversarial__adv_loss": "wgan"}, "adversarial.adv_loss=wgan"),
        ({"adversarial__feat_loss": "cosine"}, "adversarial.feat_loss=cosine"),
        ({"msstftd__depth": 3}, r"unknown key 'msstftd.depth'; known are .*filters,.*n_ffts"),
        ({"msstftd__n_fft": 64}, "unknown key 'msstftd.n_fft'"),
        ({"msstftd__filters": "many"}, "msstftd.filters is 'many'; it takes a whole number from 1"),
        ({"msstftd": None}, "no settings under msstftd"),
        ({"channels": 2}, "set msstftd.in_channels=2"),
    ],
)
def test_bad_choices_name_their_key(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        get_adversarial_losses(configuration(**changes))
    assert "\n" not in str(error.value)


def test_bad_settings_of_the_balancer_name_their_key() -> None:
    with pytest.raises(UserError, match=r"balancer\.ema_decay=2"):
        get_balancer({"l1": 1.0}, configuration(balancer__ema_decay=2).balancer)
    with pytest.raises(UserError, match=r"unknown key 'balancer\.decay'"):
        get_balancer({"l1": 1.0}, configuration(balancer__decay=1).balancer)
