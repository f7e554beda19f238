"""AdamW as a closed form, after clipping by the global norm.

With g the clipped gradient at update t: m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, and
p = p (1 - lr d) - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)   (Loshchilov & Hutter 2019, algorithm 2).
Clipping multiplies every gradient by min(1, clip / (norm + 1e-6)). The decay d applies to matrices (LoRA's A and B,
projections, embeddings), never to norms, biases and DoRA's magnitudes. `torch.optim.AdamW` computes this: fused on
CUDA, one plain loop on the CPU, so an update does not depend on how tensors were grouped.
"""

import math
from collections.abc import Iterable, Mapping

import torch

from localtune.backend import OptimizerSpec

MOMENTS = ("exp_avg", "exp_avg_sq")
"""m and v, in PyTorch's words."""


def adamw(spec: OptimizerSpec, parameters: Iterable[torch.nn.Parameter], device: torch.device) -> torch.optim.AdamW:
    """The optimizer of `spec` over `parameters`. Its learning rate is set at each update."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for parameter in parameters:
        (matrices if parameter.ndim > 1 else others).append(parameter)
    groups = [{"params": matrices, "weight_decay": spec.weight_decay}, {"params": others, "weight_decay": 0.0}]
    cuda = device.type == "cuda"
    betas = (spec.beta1, spec.beta2)
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=spec.epsilon, fused=cuda, foreach=False)


def gradient_norm(parameters: Iterable[torch.nn.Parameter]) -> torch.Tensor:
    """Global L2 norm of the gradients, a scalar on their device."""
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def update(optimizer: torch.optim.AdamW, *, lr: float, norm: float, clip: float) -> None:
    """Apply one update from the gradients at hand, whose global norm is `norm`; `clip` 0 = no clipping."""
    factor = clip / (norm + 1e-6) if clip else math.inf
    for group in optimizer.param_groups:
        group["lr"] = lr
        gradients = [p.grad for p in group["params"] if p.grad is not None]
        if factor < 1 and gradients:
            torch._foreach_mul_(gradients, factor)
    optimizer.step()


def state_tensors(
    optimizer: torch.optim.AdamW, named: Mapping[str, torch.nn.Parameter]
) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """Both moments as `name.exp_avg`, `name.exp_avg_sq`, and the number of updates by name."""
    tensors: dict[str, torch.Tensor] = {}
    steps: dict[str, int] = {}
    for name, parameter in named.items():
        state = optimizer.state.get(parameter)
        if state:
            steps[name] = int(state["step"])
            tensors |= {f"{name}.{moment}": state[moment] for moment in MOMENTS}
    return tensors, steps


def load_state(
    optimizer: torch.optim.AdamW,
    named: Mapping[str, torch.nn.Parameter],
    tensors: Mapping[str, torch.Tensor],
    steps: Mapping[str, int],
) -> None:
    """The inverse of `state_tensors`. Raises `KeyError` for a moment that is missing."""
    fused = bool(optimizer.defaults["fused"])
    optimizer.state.clear()
    for name, count in steps.items():
        parameter = named[name]
        moments = {moment: tensors[f"{name}.{moment}"].to(parameter) for moment in MOMENTS}
        step = torch.tensor(float(count), dtype=torch.float32, device=parameter.device if fused else "cpu")
        optimizer.state[parameter] = {"step": step, **moments}
