"""AdamW, Adafactor and Lion as closed forms, after clipping by the global norm.

With g the gradient times min(1, clip / (norm + 1e-6)), t the number of the update, lr its learning rate, d the decay:

adamw      m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2,
           p = p (1 - lr d) - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)  (Loshchilov & Hutter 2019, alg. 2).
lion       c = b1 m + (1 - b1) g, p = p (1 - lr d) - lr sign(c), m = b2 m + (1 - b2) g  (Chen et al. 2023, alg. 2).
adafactor  as `torch.optim.Adafactor` defines it (Shazeer & Stern 2018): factored second moments for matrices, steps of
           min(lr, 1 / sqrt(t)) max(1e-3, RMS(p)), so that lr is relative to the size of the weights.

The decay d applies to matrices (LoRA's A and B, projections, embeddings), never to norms, biases and DoRA's magnitudes.
AdamW is fused on CUDA; everything else is one plain loop, so an update does not depend on how tensors were grouped.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from localtune.backend import OptimizerSpec


class Lion(torch.optim.Optimizer):
    """The sign of an interpolated momentum (Chen et al. 2023, algorithm 2)."""

    def __init__(self, groups: list[dict[str, Any]], betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": 0.0, "betas": betas})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Apply one update from the gradients at hand."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state |= {"step": torch.tensor(0.0), "exp_avg": torch.zeros_like(parameter)}
                state["step"] += 1
                direction = state["exp_avg"].lerp(parameter.grad, 1 - beta1).sign_()
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-group["lr"])
                state["exp_avg"].lerp_(parameter.grad, 1 - beta2)


def optimizer_of(
    spec: OptimizerSpec, parameters: Iterable[torch.nn.Parameter], device: torch.device
) -> torch.optim.Optimizer:
    """The optimizer of `spec` over `parameters`. Its learning rate is set at each update."""
    if spec.name == "adafactor":
        return torch.optim.Adafactor(_groups(spec, parameters), lr=0.0, foreach=False)
    if spec.name == "lion":
        return Lion(_groups(spec, parameters), (spec.beta1, spec.beta2))
    return adamw(spec, parameters, device)


def adamw(spec: OptimizerSpec, parameters: Iterable[torch.nn.Parameter], device: torch.device) -> torch.optim.AdamW:
    """PyTorch's AdamW with the settings of `spec`."""
    betas = (spec.beta1, spec.beta2)
    cuda = device.type == "cuda"
    return torch.optim.AdamW(
        _groups(spec, parameters), lr=0.0, betas=betas, eps=spec.epsilon, fused=cuda, foreach=False
    )


def gradient_norm(parameters: Iterable[torch.nn.Parameter]) -> torch.Tensor:
    """Global L2 norm of the gradients, a scalar on their device."""
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def update(optimizer: torch.optim.Optimizer, *, lr: float, norm: float, clip: float) -> None:
    """Apply one update from the gradients at hand, whose global norm is `norm`; `clip` 0 = no clipping."""
    factor = clip / (norm + 1e-6) if clip else math.inf
    for group in optimizer.param_groups:
        group["lr"] = lr
        gradients = [p.grad for p in group["params"] if p.grad is not None]
        if factor < 1 and gradients:
            torch._foreach_mul_(gradients, factor)
    optimizer.step()


def name_of(optimizer: torch.optim.Optimizer) -> str:
    """What `OptimizerSpec` calls it."""
    return {torch.optim.AdamW: "adamw", torch.optim.Adafactor: "adafactor", Lion: "lion"}[type(optimizer)]


def state_tensors(
    optimizer: torch.optim.Optimizer, named: Mapping[str, torch.nn.Parameter]
) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """The state as `<name>.<part>`, such as `name.exp_avg`, and the number of updates by name."""
    tensors: dict[str, torch.Tensor] = {}
    steps: dict[str, int] = {}
    for name, parameter in named.items():
        state = optimizer.state.get(parameter)
        if state:
            steps[name] = int(state["step"])
            tensors |= {f"{name}.{part}": state[part] for part in _parts(optimizer, parameter)}
    return tensors, steps


def load_state(
    optimizer: torch.optim.Optimizer,
    named: Mapping[str, torch.nn.Parameter],
    tensors: Mapping[str, torch.Tensor],
    steps: Mapping[str, int],
) -> None:
    """The inverse of `state_tensors`. Raises `KeyError` for a part that is missing."""
    fused = bool(optimizer.defaults.get("fused"))
    optimizer.state.clear()
    for name, count in steps.items():
        parameter = named[name]
        kept = {part: tensors[f"{name}.{part}"].to(parameter) for part in _parts(optimizer, parameter)}
        step = torch.tensor(float(count), dtype=torch.float32, device=parameter.device if fused else "cpu")
        optimizer.state[parameter] = {"step": step, **kept}


def _groups(spec: OptimizerSpec, parameters: Iterable[torch.nn.Parameter]) -> list[dict[str, Any]]:
    """Matrices decay, the rest does not."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for parameter in parameters:
        (matrices if parameter.ndim > 1 else others).append(parameter)
    groups = [{"params": matrices, "weight_decay": spec.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _parts(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter) -> tuple[str, ...]:
    """What the optimizer keeps of `parameter`, in PyTorch's words."""
    factored = ("row_var", "col_var") if parameter.ndim > 1 else ("variance",)
    return {"adamw": ("exp_avg", "exp_avg_sq"), "adafactor": factored, "lion": ("exp_avg",)}[name_of(optimizer)]
