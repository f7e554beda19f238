"""Weights that mlx-lm quantised: what `config.json` says of them, and the shapes they stand for.

In that layout a packed `X.weight` (U32, [..., out, in * bits / 32]) lies beside `X.scales` [..., out, in / group] and,
in the affine mode, `X.biases`; `quantization` in `config.json` holds group_size, bits and mode, and under a module's
name what differs there. Shapes are exact: a contradiction between configuration and tensors is an `InputError`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from localtune.errors import InputError, Problem
from localtune.model.tensors import TensorInfo

CONFIG = "config.json"
BITS = {"affine": (4, 2, 3, 5, 6, 8), "mxfp4": (4,), "nvfp4": (4,), "mxfp8": (8,)}
"""Bits per weight that each mode of MLX has, its default first."""
GROUPS = {"affine": (64, 32, 128), "mxfp4": (32,), "nvfp4": (16,), "mxfp8": (32,)}
"""Weights that share a scale, the default first."""


@dataclass(frozen=True)
class Packing:
    """How the weights of one module are packed."""

    mode: str
    """affine, mxfp4, nvfp4 or mxfp8."""
    bits: int
    group_size: int


@dataclass(frozen=True)
class Quantization:
    """What `config.json` says under `quantization`."""

    packing: Packing
    """Of every module that is not named."""
    modules: Mapping[str, Packing]
    """Of modules that differ."""

    def of(self, module: str) -> Packing:
        """How the module of that name is packed."""
        return self.modules.get(module, self.packing)


def quantization(group: Mapping[str, Any]) -> Quantization:
    """The object under `quantization`. Raises `InputError` (code model.config) for what MLX has not."""
    own = {key: group[key] for key in ("mode", "bits", "group_size") if key in group}
    named = {key: value for key, value in group.items() if isinstance(value, dict)}
    return Quantization(_packing(own, "quantization"), {name: _packing(value, name) for name, value in named.items()})


def unpacked(tensors: Sequence[TensorInfo], how: Quantization) -> tuple[TensorInfo, ...]:
    """`tensors` with the shapes that packed ones stand for, and without their scales and biases.

    Type and size stay those of the packed tensor in the file.
    """
    names = {tensor.name for tensor in tensors}
    scales = {f"{t.name.removesuffix('.scales')}.weight": t for t in tensors if t.name.endswith(".scales")}
    scales = {name: tensor for name, tensor in scales.items() if name in names}
    beside = {f"{name.removesuffix('.weight')}.{part}" for name in scales for part in ("scales", "biases")}
    return tuple(
        _unpacked(tensor, scales[tensor.name], how.of(tensor.name.removesuffix(".weight")))
        if tensor.name in scales
        else tensor
        for tensor in tensors
        if tensor.name not in beside
    )


def _unpacked(tensor: TensorInfo, scales: TensorInfo, how: Packing) -> TensorInfo:
    if tensor.dtype != "U32" or len(tensor.shape) < 2 or scales.shape[:-1] != tensor.shape[:-1]:
        _refuse(tensor.name, f"is {_shown(tensor)}, with scales {_shown(scales)}: not MLX's packed layout")
    width = scales.shape[-1] * how.group_size
    if tensor.shape[-1] * 32 != width * how.bits:
        what = f"is {_shown(tensor)}, with scales {_shown(scales)}: not {how.bits} bits in groups of {how.group_size}"
        _refuse(tensor.name, what)
    return replace(tensor, shape=(*tensor.shape[:-1], width))


def _packing(group: Mapping[str, Any], where: str) -> Packing:
    """What is not stated is MLX's default of the mode, as in its `to_quantized`."""
    mode = group.get("mode", "affine")
    if not isinstance(mode, str) or mode not in BITS:
        _refuse(where, f"has the mode {str(mode)[:40]!r}; expected one of {', '.join(BITS)}", CONFIG)
    bits, size = group.get("bits", BITS[mode][0]), group.get("group_size", GROUPS[mode][0])
    if type(bits) is not int or bits not in BITS[mode]:
        _refuse(where, f"has {str(bits)[:40]} bits; {mode} has {', '.join(map(str, sorted(BITS[mode])))}", CONFIG)
    if type(size) is not int or size not in GROUPS[mode]:
        expected = ", ".join(map(str, sorted(GROUPS[mode])))
        _refuse(where, f"has the group size {str(size)[:40]}; {mode} has {expected}", CONFIG)
    return Packing(mode, bits, size)


def _shown(tensor: TensorInfo) -> str:
    return f"{' x '.join(map(str, tensor.shape)) or 'one'} of {tensor.dtype}"


def _refuse(name: str, what: str, where: str = "") -> NoReturn:
    problem = Problem("model.config" if where else "model.quantized", f"{name[:200]} {what}", where, fix=_FIX)
    raise InputError(problem)


_FIX = "get a fresh copy of the model's files, or quantise the original model again with  mlx_lm.convert -q"
