"""A LoRA as a GGUF that llama.cpp loads beside its base: `<tensor of the base>.lora_a` and `.lora_b`.

llama.cpp adds s * (alpha / r) * B (A x) to a tensor's output, with s the scale that is asked for. Exact in F32: A and B
are the adapter's values; B's rows are regrouped where the base's are (see `values`), without which a file loads and
says something else; alpha is the adapter's scale times r in float32, rsLoRA's too. What has no place in that layout
(DoRA's magnitudes, stacked experts, a tied head) is refused: fused into the base it loses nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np

from localtune.adapter import Lora, Update, base_of, read_peft_config, read_updates
from localtune.batch import Floats
from localtune.durable import new_path
from localtune.errors import InputError, Problem
from localtune.export.families import convert
from localtune.export.fingerprint import base_key
from localtune.export.gguf_file import PROOF, PROOF_ROOM
from localtune.export.identity import Identity
from localtune.export.keys import add_key
from localtune.export.placed import Placed
from localtune.export.values import regrouped
from localtune.model import ModelFiles
from localtune.model.weights import Weights

Encoding = Literal["F32", "F16"]
FUSE = "localtune export RUN --gguf Q8_0  fuses it into a whole model"


@dataclass(frozen=True)
class Written:
    """What a file holds."""

    modules: tuple[str, ...]
    """The base's modules that have an update."""
    alpha: float
    """What llama.cpp divides by the rank and multiplies every update with."""
    size: int
    """Bytes of the file."""


def write_adapter(
    adapter: Path, model: ModelFiles, path: Path, identity: Identity, encoding: Encoding = "F16"
) -> Written:
    """Write the PEFT adapter in the folder `adapter`, trained on `model`, as the GGUF `path`, whole or not at all.

    The file says its base (see `fingerprint`) and has room for a proof, as a model's has (see `gguf_file`).
    Raises `InputError` for an adapter of another kind (adapter.unsupported), a damaged one (adapter.unreadable,
    .not-finite), one of another base (adapter.base), values beyond F16 (adapter.overflow), and for a base that has no
    GGUF (gguf.*); `OSError` as the system says it.
    """
    lora = read_peft_config(adapter)
    _refuse_unsupported(lora, adapter)
    updates, weights = read_updates(adapter, lora)
    conversion = convert(model)
    targets = {placed.sources[0]: placed for placed in conversion.tensors if len(placed.sources) == 1}
    _refuse_misfits(updates, weights, targets, lora, adapter)
    alpha = float(np.float32(lora.scale * lora.rank))
    keys = {"general.type": "adapter", "adapter.type": "lora", **identity.metadata(), "adapter.lora.alpha": alpha,
            "general.quantization_version": gguf.GGML_QUANT_VERSION, PROOF: " " * PROOF_ROOM,
            **base_key(model, conversion)}  # fmt: skip
    tensors = [
        (name, _of_type(values, encoding, name))
        for module, update in updates.items()
        for name, values in _pair(targets[f"{module}.weight"], update, weights, model.config.head_dim)
    ]
    with new_path(path) as temporary:
        _write(temporary, conversion.architecture, keys, tensors)
    return Written(tuple(updates), alpha, path.stat().st_size)


def _refuse_unsupported(lora: Lora, adapter: Path) -> None:
    if lora.dora:
        what = "is a DoRA: its magnitudes have no place beside a base in llama.cpp"
        raise InputError(Problem("adapter.unsupported", what, str(adapter), fix=FUSE))
    if lora.alpha == 0:  # which llama.cpp reads as "do not scale"
        what = "lora_alpha is 0: the adapter changes nothing"
        raise InputError(Problem("adapter.unsupported", what, str(adapter), fix="export the base as it is"))


def _refuse_misfits(
    updates: Mapping[str, Update], weights: Weights, targets: Mapping[str, Placed], lora: Lora, adapter: Path
) -> None:
    faults = [fault for module, update in updates.items() for fault in _faults(module, update, weights, targets, lora)]
    if faults:
        what = f"{len(faults)} of its parts have no place beside this base in llama.cpp"
        trained = base_of(adapter) or "its configuration does not say which"
        fix = f"name the base it was trained on ({trained}), or  {FUSE}"
        raise InputError(Problem("adapter.base", what, str(adapter), "\n".join(faults[:5]), fix))


def _faults(module: str, update: Update, weights: Weights, targets: Mapping[str, Placed], lora: Lora) -> Iterator[str]:
    placed = targets.get(f"{module}.weight")
    if placed is None or len(placed.shape) != 2 or placed.added:
        yield f"{module[:200]}: the base's file has no weight matrix for this module alone"
        return
    outputs, inputs = placed.shape
    for name, shape in ((update.a, (lora.rank, inputs)), (update.b, (outputs, lora.rank))):
        if weights[name].shape != shape:
            yield f"{name[:200]} is {list(weights[name].shape)}, the base needs {list(shape)}"


def _pair(placed: Placed, update: Update, weights: Weights, head_dim: int) -> Iterator[tuple[str, Floats]]:
    """A [r, in] and B [out, r], named as llama.cpp finds them."""
    a = weights.rows(update.a, 0, weights[update.a].shape[0])
    b = weights.rows(update.b, 0, weights[update.b].shape[0])
    yield f"{placed.name}.lora_a", a
    yield f"{placed.name}.lora_b", regrouped(b, head_dim) if placed.heads else b


def _of_type(values: Floats, encoding: Encoding, name: str) -> np.ndarray[Any, Any]:
    if not np.isfinite(values).all():
        what = "holds values that are not finite numbers"
        raise InputError(Problem("adapter.not-finite", what, name, fix="train again with a lower learning rate"))
    if encoding == "F32":
        return values
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        what = f"holds {np.abs(values).max():.3g}, and F16 ends at 65,504"
        raise InputError(Problem("adapter.overflow", what, name, fix=f"write it in F32, or  {FUSE}"))
    return half


def _write(
    path: Path, architecture: str, keys: Mapping[str, Any], tensors: list[tuple[str, np.ndarray[Any, Any]]]
) -> None:
    writer = gguf.GGUFWriter(path, architecture)
    try:
        for key, value in keys.items():
            add_key(writer, key, value)
        for name, values in tensors:
            writer.add_tensor(name, np.ascontiguousarray(values))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
