"""Muon: steps of equal size in every direction of a weight matrix (Jordan et al. 2024, "Muon: An optimizer for hidden
layers in neural networks"; scaled as by Liu et al., arXiv 2502.16982).

PyTorch's own does its products in bfloat16 alone, which processors without it emulate: 4 s a step in place of 0.1 s.
It also knows no second optimizer for the parameters that Muon is not for, and checkpoints want one of them.
"""

import typing as tp

import torch
from torch import Tensor

# A quintic whose iteration takes singular values between 0 and 1 to about 1 (Jordan et al.).
_QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.AdamW):
    """Muon for the parameter groups with `muon: True`, AdamW for the others.

    Args:
        groups: parameter groups. Those with `muon` hold matrices, and may set `momentum` (default 0.95).
        options: of AdamW, for all groups that do not set their own; with `lr` and `weight_decay` as Muon's too.

    Raises:
        ValueError: a parameter of a group with `muon` is no matrix.
    """

    def __init__(self, groups: tp.Iterable[dict[str, tp.Any]], **options: tp.Any) -> None:
        super().__init__(groups, **options)
        self._step_supports_amp_scaling = False  # a scaler is to skip whole updates itself
        for group in self.param_groups:
            group.setdefault("muon", False)
            group.setdefault("momentum", 0.95)
            if group["muon"] and any(parameter.dim() != 2 for parameter in group["params"]):
                raise ValueError("Muon is for matrices; give other parameters in a group without `muon`")

    @torch.no_grad()
    def step(self, closure: tp.Callable[[], tp.Any] | None = None) -> tp.Any:
        """One update of all groups; what `closure` gives, if there is one."""
        everything = self.param_groups
        try:
            self.param_groups = [group for group in everything if not group["muon"]]
            loss = super().step(closure)
        finally:
            self.param_groups = everything
        for group in everything:
            if group["muon"]:
                self._step_matrices(group)
        return loss

    def _step_matrices(self, group: dict[str, tp.Any]) -> None:
        alike: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
        for weight in group["params"]:
            if weight.grad is None:
                continue
            state = self.state[weight]
            if not state:
                state["step"] = torch.zeros(())  # AdamW, which reads checkpoints, looks for it
                state["momentum_buffer"] = torch.zeros_like(weight)
            state["step"] += 1
            state["momentum_buffer"].lerp_(weight.grad, 1 - group["momentum"])
            ahead = weight.grad.lerp(state["momentum_buffer"], group["momentum"])  # Nesterov
            tall = weight.shape[0] > weight.shape[1]
            wide = ahead.T if tall else ahead
            alike.setdefault((wide.shape[0], wide.shape[1]), []).append((weight.T if tall else weight, wide))
        for shape, pairs in alike.items():
            updates = orthogonalised(torch.stack([wide for _, wide in pairs]))
            for (weight, _), update in zip(pairs, updates):
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                # The size of an update of Adam, about 0.2 a weight, so that one rate suits matrices of all shapes.
                weight.add_(update, alpha=-0.2 * group["lr"] * max(shape) ** 0.5)


def orthogonalised(matrices: Tensor, steps: int = 5) -> Tensor:
    """The nearest matrices [N, rows, columns] whose singular values are all about 1 (0.7 to 1.2), rows ≤ columns.

    Found by Newton–Schulz iterations, in single precision.
    """
    a, b, c = _QUINTIC
    x = matrices.float()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.to(matrices.dtype)
