"""The loss balancer of EnCodec (arXiv 2210.13438, section 3.4, eq. 8)."""

import typing as tp
from dataclasses import dataclass

import torch

from ..errors import UserError


@dataclass(eq=False)
class Balancer:
    """Weighs losses by the gradient they cause in the model's output, so that a weight is a share of the gradient.

    Loss i with weight w_i and gradient g_i (towards the output) gives `total_norm * w_i / sum(w) * g_i / mean|g_i|`,
    where the mean runs over past calls with exponentially falling weight and over all processes. How loss functions
    are scaled then no longer matters. The sum goes over the losses of a call: where one pauses, the others share.

    The averages are part of a run: `state_dict` and `load_state_dict` let it go on bit for bit.

    Args:
        weights: weight of each loss by name.
        balance_grads: False gives the plain weighted sum of gradients.
        total_norm: norm of the resulting gradient, if all losses pull in one direction.
        ema_decay: how much of the average norms a call keeps, in (0, 1]; 1 averages over all calls alike.
        per_batch_item: norm of each item of the batch, averaged, instead of one norm of the whole gradient.
        epsilon: added to norms before dividing by them.
        monitor: fill `metrics`.

    Raises:
        UserError: a setting is out of its range, or no loss has a weight.
    """

    weights: tp.Mapping[str, float]
    balance_grads: bool = True
    total_norm: float = 1.0
    ema_decay: float = 0.999
    per_batch_item: bool = True
    epsilon: float = 1e-12
    monitor: bool = False

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if weight < 0:
                raise UserError(f"losses.{name}={weight} is negative; weights must be 0 or more")
        if not any(self.weights.values()):
            raise UserError("no loss has a weight above 0, so there is nothing to balance; set one under losses")
        if not 0 < self.ema_decay <= 1:
            raise UserError(f"balancer.ema_decay={self.ema_decay} must lie above 0 and not above 1")
        if not self.total_norm > 0:
            raise UserError(f"balancer.total_norm={self.total_norm} must be above 0")
        # Weighted sum of norms and sum of weights, by loss. Their quotient is an average from the first call on,
        # without the bias towards 0 that a single running value begins with.
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: dict[str, float] = {}
        self._metrics: dict[str, torch.Tensor] = {}

    @property
    def metrics(self) -> dict[str, torch.Tensor]:
        """With `monitor`: `ratio_NAME`, share of each loss in the sum of all average norms before balancing, as scalars
        on the device; of the last call."""
        return self._metrics

    def state_dict(self) -> dict[str, tp.Any]:
        """The average norms so far."""
        return {"sums": {name: value.clone() for name, value in self._sums.items()}, "counts": dict(self._counts)}

    def load_state_dict(self, state: dict[str, tp.Any]) -> None:
        """Take over what `state_dict` gave."""
        self._sums = {name: value.clone() for name, value in state["sums"].items()}
        self._counts = dict(state["counts"])

    def _average_norms(self, gradients: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Put the norms of this call into the averages, and give those."""
        # Here, because the losses are also used where nothing is trained, and flashy takes its time to import.
        import flashy

        if self.per_batch_item:
            norms = [torch.linalg.vector_norm(grad.float().flatten(1), dim=1).mean() for grad in gradients.values()]
        else:
            norms = [torch.linalg.vector_norm(grad.float()) for grad in gradients.values()]
        stacked = torch.stack(norms)
        # Every process has as many items, and must scale alike.
        flashy.distrib.average_tensors([stacked])
        averages = {}
        for name, norm in zip(gradients, stacked):
            before = self._sums.get(name)
            self._sums[name] = norm if before is None else before.to(norm) * self.ema_decay + norm
            self._counts[name] = self._counts.get(name, 0.0) * self.ema_decay + 1
            averages[name] = self._sums[name] / self._counts[name]
        return averages

    def gradient(self, losses: dict[str, torch.Tensor], input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Balanced gradient of the losses towards `input` [B, ...], and the loss that has this gradient, a scalar.

        For those who send it on themselves, say together with a loss that does not pass through `input`:
        `torch.autograd.backward([input, penalty], [gradient, None])` walks through the model once.

        Args:
            losses: scalars by name; each depends on `input` and has a weight.
            input: the model's output, not detached from the model.
        """
        unknown = losses.keys() - self.weights.keys()
        assert losses and not unknown, f"losses without a weight: {unknown}"
        gradients = {name: torch.autograd.grad(loss, input, retain_graph=True)[0] for name, loss in losses.items()}
        norms = self._average_norms(gradients) if self.balance_grads or self.monitor else {}
        if self.monitor:
            everything = torch.stack(list(norms.values())).sum() + self.epsilon
            self._metrics = {f"ratio_{name}": norm / everything for name, norm in norms.items()}
        combined, effective = torch.zeros_like(input), input.new_zeros(())
        present = sum(self.weights[name] for name in losses)
        for name, grad in gradients.items():
            scale: tp.Any = self.weights[name]
            if self.balance_grads and scale:
                scale = self.total_norm * scale / present / (norms[name] + self.epsilon)
            combined = combined + scale * grad
            effective = effective + scale * losses[name].detach()
        return combined, effective

    def backward(self, losses: dict[str, torch.Tensor], input: torch.Tensor) -> torch.Tensor:
        """`gradient`, sent from `input` on through the model; returns the loss that was effective, detached."""
        combined, effective = self.gradient(losses, input)
        input.backward(combined)
        return effective
