"""The game between codec and discriminator: what each of them is to minimise.

Sources: hinge as in Lim & Ye 2017 and arXiv 2210.13438 (eq. 6 and 7), least squares as in Mao et al. 2017, feature
matching as in Kumar et al. 2019 (MelGAN).
"""

import copy
import typing as tp
from contextlib import contextmanager

import flashy
import torch
from torch import nn
from torch.nn import functional as F

from ..errors import BadArgument, UserError

LogitLoss = tp.Callable[[torch.Tensor], torch.Tensor]
AdvLossType = nn.Module | LogitLoss
FeatLossType = nn.Module | tp.Callable[[tp.Any, tp.Any], torch.Tensor]


def _mean(x: torch.Tensor) -> torch.Tensor:
    """Of no logits, as a signal shorter than one window may give, 0."""
    return x.mean() if x.numel() else x.sum()


def mse_real_loss(x: torch.Tensor) -> torch.Tensor:
    """For the discriminator: logits x of real sound should be 1."""
    return _mean((x - 1).square())


def mse_fake_loss(x: torch.Tensor) -> torch.Tensor:
    """For the discriminator: logits x of reconstructed sound should be 0."""
    return _mean(x.square())


def hinge_real_loss(x: torch.Tensor) -> torch.Tensor:
    """For the discriminator: logits x of real sound should be above 1."""
    return _mean(F.relu(1 - x))


def hinge_fake_loss(x: torch.Tensor) -> torch.Tensor:
    """For the discriminator: logits x of reconstructed sound should be below -1."""
    return _mean(F.relu(1 + x))


def mse_loss(x: torch.Tensor) -> torch.Tensor:
    """For the codec: logits x of its sound should be 1."""
    return mse_real_loss(x)


def hinge_loss(x: torch.Tensor) -> torch.Tensor:
    """For the codec: logits x of its sound should be high, without bound."""
    return -_mean(x)


def hinge2_loss(x: torch.Tensor) -> torch.Tensor:
    """For the codec: logits x of its sound should be above 1, and no higher than that."""
    return hinge_real_loss(x)


_ADV: dict[str, LogitLoss] = {"mse": mse_loss, "hinge": hinge_loss, "hinge2": hinge2_loss}
_FAKE: dict[str, LogitLoss] = {"mse": mse_fake_loss, "hinge": hinge_fake_loss, "hinge2": hinge_fake_loss}
_REAL: dict[str, LogitLoss] = {"mse": mse_real_loss, "hinge": hinge_real_loss, "hinge2": hinge_real_loss}


def _criterion(table: dict[str, LogitLoss], name: str) -> LogitLoss:
    if name not in table:
        raise BadArgument(f"adversarial.adv_loss={name} is not known; use {', '.join(table)}")
    return table[name]


def get_adv_criterion(loss_type: str) -> tp.Callable:
    """What the codec minimises on the logits of its sound: mse, hinge or hinge2. Raises UserError for others."""
    return _criterion(_ADV, loss_type)


def get_fake_criterion(loss_type: str) -> tp.Callable:
    """What the discriminator minimises on reconstructed sound, for the same names."""
    return _criterion(_FAKE, loss_type)


def get_real_criterion(loss_type: str) -> tp.Callable:
    """What the discriminator minimises on real sound, for the same names."""
    return _criterion(_REAL, loss_type)


class FeatureMatchingLoss(nn.Module):
    """Distance of the activations that two signals cause in one sub-discriminator, summed over its layers.

    (EnCodec's paper also divides each layer's distance by the mean magnitude of the real one; as in the peer's code,
    this does not.)

    Args:
        loss: distance of two maps; L1 if None.
        normalize: divide by the number of layers.
    """

    def __init__(self, loss: FeatLossType | None = None, normalize: bool = True) -> None:
        super().__init__()
        self.loss = nn.L1Loss() if loss is None else loss
        self.normalize = normalize

    def forward(self, fmap_fake: list[torch.Tensor], fmap_real: list[torch.Tensor]) -> torch.Tensor:
        """Two lists of maps, equal in number and shapes; returns a scalar. Raises UserError where they are not."""
        fake_shapes, real_shapes = ([list(feature.shape) for feature in maps] for maps in (fmap_fake, fmap_real))
        if not fake_shapes or fake_shapes != real_shapes:
            raise UserError(
                f"feature maps of shapes {fake_shapes} and {real_shapes} do not match; give those of one discriminator"
            )
        total = torch.stack([self.loss(fake, real) for fake, real in zip(fmap_fake, fmap_real)]).sum()
        return total / len(fmap_fake) if self.normalize else total


@contextmanager
def _frozen(module: nn.Module) -> tp.Iterator[None]:
    """In here gradients pass through a module but are not computed for its parameters."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


class AdversarialLoss(nn.Module):
    """A discriminator with its optimizer, and the losses on both sides of the game.

    `forward` is the codec's side and leaves the discriminator as it is; `train_adv` is one update of the discriminator.
    The state dict holds weights and optimizer (under `_extra_state`), so a run that loads it goes on bit for bit.

    Args:
        adversary: gives logits and feature maps, one entry per sub-discriminator, as `MultiDiscriminator` does.
        optimizer: over the adversary's parameters.
        loss: criterion of the codec on the logits of its sound.
        loss_real, loss_fake: criteria of the discriminator on logits of real and of reconstructed sound.
        loss_feat: compares feature maps of one sub-discriminator; None leaves them out.
        normalize: mean over sub-discriminators instead of the sum.
    """

    def __init__(
        self,
        adversary: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: AdvLossType,
        loss_real: AdvLossType,
        loss_fake: AdvLossType,
        loss_feat: FeatLossType | None = None,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        self.adversary = adversary
        # Processes draw their first weights from seeds of their own.
        flashy.distrib.broadcast_model(adversary)
        self.optimizer = optimizer
        self.loss = loss
        self.loss_real = loss_real
        self.loss_fake = loss_fake
        self.loss_feat = loss_feat
        self.normalize = normalize

    def get_extra_state(self) -> dict[str, tp.Any]:
        """State of the optimizer, for torch's `state_dict`."""
        return self.optimizer.state_dict()

    def set_extra_state(self, state: dict[str, tp.Any]) -> None:
        """Take over what `get_extra_state` gave; a copy, since torch's optimizers would go on writing into it."""
        self.optimizer.load_state_dict(copy.deepcopy(state))

    def get_adversary_pred(self, x: torch.Tensor) -> tuple[list[torch.Tensor], list[list[torch.Tensor]]]:
        """Logits and feature maps of x [B, C, T], one entry per sub-discriminator; logits in float32."""
        logits, maps = self.adversary(x)
        assert len(logits) == len(maps) > 0, "a discriminator gives as many lists of feature maps as logits"
        return [logit.float() for logit in logits], maps

    def _join(self, losses: list[torch.Tensor]) -> torch.Tensor:
        total = torch.stack(losses).sum()
        return total / len(losses) if self.normalize else total

    def train_adv(self, fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """One update of the discriminator on fake and real [B, C, T]; returns its loss before that, a scalar.

        Gradients are averaged over processes, so all of them must call this at the same steps.
        """
        with torch.enable_grad():
            # In two passes: joined in one batch, gradients that cancel each other (those of the last bias under hinge)
            # leave rounding noise, which Adam blows up to a step.
            logits_fake, _ = self.get_adversary_pred(fake.detach())
            logits_real, _ = self.get_adversary_pred(real.detach())
            loss = self._join(
                [self.loss_fake(ours) + self.loss_real(theirs) for ours, theirs in zip(logits_fake, logits_real)]
            )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
        flashy.distrib.sync_gradients(self.adversary.parameters())
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def forward(self, fake: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The codec's losses for its sound fake [B, C, T] and the original real: (adversarial, feature matching).

        Both are scalars; the second one is 0 and without gradient where there is no `loss_feat`.
        """
        with _frozen(self.adversary):
            logits, maps = self.get_adversary_pred(fake)
            adv = self._join([self.loss(logit) for logit in logits])
            if self.loss_feat is None:
                return adv, adv.new_zeros(())
            with torch.no_grad():
                _, real_maps = self.get_adversary_pred(real)
            return adv, self._join([self.loss_feat(*pair) for pair in zip(maps, real_maps)])
