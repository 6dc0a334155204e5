"""Momentum made orthogonal: an optimiser that teaches small convolutional networks in fewer steps than Adam."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

# Newton-Schulz coefficients for singular values near one in five rounds (Jordan et al. 2024).
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5
_ADAM_SHARE = 1.0 / 3.0
_UPDATE_SIZE = 0.2


class Muon(Optimizer):
    """Momentum orthogonalised by Newton-Schulz for convolutions, Adam for everything else.

    Each convolution's kernel counts as a matrix of output channels by all inputs; the update has the same size in all
    its directions, so that rare, weak features are learned as fast as the strong common ones (Jordan, Jin, Boza, You,
    Cesista, Newhouse, Bernstein: "Muon: an optimizer for hidden layers in neural networks", 2024). Updates have the
    root mean square that Adam's have at the same learning rate (Liu et al. 2025, arXiv:2502.16982).

    Args:
        network: whose parameters are trained.
        lr: learning rate of the convolutions; the other parameters take a third of it.
        momentum: decay of the momentum of the convolutions.
        betas: decays of Adam's moments.
    """

    def __init__(
        self, network: nn.Module, lr: float, *, momentum: float = 0.95, betas: tuple[float, float] = (0.9, 0.99)
    ) -> None:
        parameters = list(network.parameters())
        groups = [
            {"params": [one for one in parameters if one.ndim == 5], "orthogonal": True},
            {"params": [one for one in parameters if one.ndim != 5], "orthogonal": False},
        ]
        defaults = {"lr": lr, "momentum": momentum, "betas": betas}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One update from the gradients that are there."""
        if closure is not None:
            raise ValueError("this optimiser takes no closure")
        for group in self.param_groups:
            update = self._orthogonal if group["orthogonal"] else self._adam
            for parameter in _with_gradient(group["params"]):
                update(parameter, group)

    def _orthogonal(self, parameter: Tensor, group: dict[str, Any]) -> None:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].lerp_(gradient, 1.0 - group["momentum"])
        ahead = gradient.lerp(state["momentum"], group["momentum"]).flatten(1)
        size = _UPDATE_SIZE * max(ahead.shape) ** 0.5
        parameter.add_(orthogonalised(ahead).view(parameter.shape), alpha=-group["lr"] * size)

    def _adam(self, parameter: Tensor, group: dict[str, Any]) -> None:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["first"], state["second"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
        first, second = group["betas"]
        state["step"] += 1
        count = float(state["step"])
        state["first"].lerp_(gradient, 1.0 - first)
        state["second"].lerp_(gradient.square(), 1.0 - second)
        spread = (state["second"] / (1.0 - second**count)).sqrt_().add_(1e-8)
        parameter.addcdiv_(state["first"], spread, value=-group["lr"] * _ADAM_SHARE / (1.0 - first**count))


def orthogonalised(matrix: Tensor) -> Tensor:
    """The nearest matrix with orthogonal rows (or columns, if there are fewer), roughly: its singular values come to
    lie between about 0.7 and 1.2. Shape (rows, columns) in and out; a zero matrix stays zero.
    """
    a, b, c = _QUINTIC
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.float().T if is_tall else matrix.float()
    x = x / (x.norm() + 1e-7)
    for _ in range(_ROUNDS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if is_tall else x


def _with_gradient(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [parameter for parameter in parameters if parameter.grad is not None]
