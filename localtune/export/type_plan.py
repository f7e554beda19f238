"""Which type every tensor of a file gets, as llama.cpp chooses it.

Exact: the types are those of llama.cpp's own converter for F32, F16, BF16 and Q8_0, and those of `llama_model_quantize`
without an importance matrix for the K-quants (llama.cpp, src/llama-quant.cpp, 2026-08), for the architectures that are
exported here. Rows that a type's blocks do not divide get the type llama.cpp falls back to, and a note says so.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from localtune.export.encodings import Encoding
from localtune.export.placed import Conversion, Placed

_F16, _F32 = GGMLQuantizationType.F16, GGMLQuantizationType.F32
_Q4_K, _Q5_K, _Q6_K = GGMLQuantizationType.Q4_K, GGMLQuantizationType.Q5_K, GGMLQuantizationType.Q6_K
_Q5_0, _Q5_1, _Q8_0 = GGMLQuantizationType.Q5_0, GGMLQuantizationType.Q5_1, GGMLQuantizationType.Q8_0

_FALLBACKS = {_Q4_K: _Q5_0, _Q5_K: _Q5_1, _Q6_K: _Q8_0}
"""Type -> type with smaller blocks, for rows that its own do not divide; F16 where those do not either."""
_Q4_K_S, _Q4_K_M = LlamaFileType.MOSTLY_Q4_K_S, LlamaFileType.MOSTLY_Q4_K_M
_Q5_K_M = LlamaFileType.MOSTLY_Q5_K_M
_LAYER = re.compile(r"blk\.(\d+)\.")
_VALUES = ("attn_v.weight", "attn_qkv.weight", "attn_kv_b.weight")
"""Endings of the tensors that hold the values of attention, alone or with others."""


@dataclass(frozen=True)
class TypePlan:
    """The types of one file."""

    kinds: Mapping[str, GGMLQuantizationType]
    """Tensor -> type."""
    notes: tuple[str, ...]
    """Which tensors could not have the type they should, and why; one sentence each."""


def type_plan(conversion: Conversion, encoding: Encoding) -> TypePlan:
    """The type of every tensor of `conversion` in `encoding`."""
    wanted = _Wanted(conversion, encoding)
    asked = {placed.name: wanted.kind(placed) for placed in conversion.tensors}
    kinds = {placed.name: _fitting(placed.shape[-1], asked[placed.name]) for placed in conversion.tensors}
    return TypePlan(kinds, tuple(_notes(conversion.tensors, asked, kinds)))


class _Wanted:
    """What each tensor should be, whatever its width."""

    def __init__(self, conversion: Conversion, encoding: Encoding) -> None:
        def number(key: str, default: int) -> int:
            return int(conversion.metadata.get(f"{conversion.architecture}.{key}", default))

        names = [placed.name for placed in conversion.tensors]
        values = sorted((name for name in names if name.endswith(_VALUES)), key=_layer_of)
        self._encoding = encoding
        self._layers = number("block_count", 1)
        self._experts = number("expert_count", 0)
        self._value_order = {name: i for i, name in enumerate(values)}
        self._head = "output.weight" if "output.weight" in names else "token_embd.weight"
        heads = number("attention.head_count", 1)
        grouped = conversion.architecture == "qwen2" or heads != number("attention.head_count_kv", heads)
        self._is_70b = conversion.architecture in ("llama", "qwen2") and self._layers == 80 and grouped

    def kind(self, placed: Placed) -> GGMLQuantizationType:
        if not _may_round(placed):
            return _F32
        default, name = self._encoding.matrices, placed.name
        if default not in _FALLBACKS:
            return default
        if name == self._head:
            return _Q6_K
        if name in self._value_order:
            return self._values(name)
        if self._experts == 8 and name.endswith("attn_k.weight"):
            return _Q8_0
        if "ffn_down" in name:
            return self._down(_layer_of(name))
        if self._experts == 8 and name.endswith("attn_output.weight"):
            return _Q5_K if self._encoding.file_type in (_Q4_K_S, _Q4_K_M) else default
        return default

    def _values(self, name: str) -> GGMLQuantizationType:
        order, default, file_type = self._value_order[name], self._encoding.matrices, self._encoding.file_type
        if self._experts == 8:
            return _Q8_0
        if file_type in (_Q4_K_M, _Q5_K_M) and _more_bits(order, len(self._value_order)):
            return _Q6_K
        raised = (file_type == _Q4_K_S and order < 4) or (self._is_70b and default == _Q4_K)
        return _Q5_K if raised else default

    def _down(self, layer: int) -> GGMLQuantizationType:
        file_type = self._encoding.file_type
        if file_type in (_Q4_K_M, _Q5_K_M) and _more_bits(layer, self._layers):
            return _Q6_K
        return _Q5_K if file_type == _Q4_K_S and layer < self._layers // 8 else self._encoding.matrices


def _may_round(placed: Placed) -> bool:
    """Norms, biases, factors and the routers of experts stay F32."""
    kept = ("_norm.weight", "ffn_gate_inp.weight", "ffn_gate_inp_shexp.weight")
    return len(placed.shape) > 1 and placed.name.endswith("weight") and not placed.name.endswith(kept)


def _more_bits(layer: int, layers: int) -> bool:
    """The first and last eighth, and every third between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _layer_of(name: str) -> int:
    found = _LAYER.match(name)
    return int(found[1]) if found else -1


def _fitting(width: int, kind: GGMLQuantizationType) -> GGMLQuantizationType:
    """`kind`, or what llama.cpp writes instead where its blocks do not divide rows of `width`."""
    for one in (kind, _FALLBACKS.get(kind, kind)):
        if width % GGML_QUANT_SIZES[one][0] == 0:
            return one
    return _F16


def _notes(
    tensors: Sequence[Placed],
    asked: Mapping[str, GGMLQuantizationType],
    kinds: Mapping[str, GGMLQuantizationType],
) -> list[str]:
    groups: dict[tuple[int, GGMLQuantizationType, GGMLQuantizationType], list[str]] = {}
    for placed in tensors:
        name = placed.name
        if kinds[name] != asked[name]:
            groups.setdefault((placed.shape[-1], asked[name], kinds[name]), []).append(name)
    notes = []
    for (width, wanted, got), names in groups.items():
        them = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        blocks = GGML_QUANT_SIZES[wanted][0]
        notes.append(
            f"{them}: {got.name} and not {wanted.name}, whose blocks of {blocks} do not divide rows of {width}"
        )
    return notes
